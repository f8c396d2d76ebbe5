#pragma once

#include <cstdint>

namespace hone::kernels {

/// y = e^x, within 2 ulp: 0 below -87.3 in float (no denormals), infinity where it overflows.
template <typename T>
void exponentials(const T* x, T* y, int64_t size);

}  // namespace hone::kernels
