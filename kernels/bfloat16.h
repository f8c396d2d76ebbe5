#pragma once

// bfloat16 tensors of the model ops: read and written as they are, computed in float32.

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>

namespace hone::kernels {

/// float32 for bfloat16, otherwise `type`: what an op computes in.
inline at::ScalarType compute_type(at::ScalarType type) {
  return type == at::kBFloat16 ? at::kFloat : type;
}

/// Contiguous, in the type that an op computes in. Widening is exact.
inline at::Tensor computed(const at::Tensor& x) {
  return x.to(compute_type(x.scalar_type())).contiguous();
}

/// A result in the dtype of an argument, rounded to nearest even.
inline at::Tensor rounded(const at::Tensor& x, const at::Tensor& like) {
  return x.to(like.scalar_type());
}

}  // namespace hone::kernels
