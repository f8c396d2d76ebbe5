#pragma once

// Rotary position embedding (Su et al. 2021) in the "rotate half" pairing of Hugging Face
// checkpoints: element i turns with element i + head_dim/2.

#include "kernels/math/host_device.h"

namespace hone::kernels::math {

template <typename T>
HONE_HD void rope_rotate(T& first, T& second, T cosine, T sine) {
  const T x = first * cosine - second * sine;
  second = second * cosine + first * sine;
  first = x;
}

/// The transpose of rope_rotate, for gradients.
template <typename T>
HONE_HD void rope_rotate_back(T& first, T& second, T cosine, T sine) {
  rope_rotate(first, second, cosine, -sine);
}

}  // namespace hone::kernels::math
