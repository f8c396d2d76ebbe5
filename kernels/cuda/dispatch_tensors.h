#pragma once

// What the CUDA halves of the ops need of tensors beside the launchers' arguments.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <cstddef>
#include <cstdint>

namespace hone::kernels::cuda {

template <typename T>
const T* data_or_null(const at::Tensor& x) {
  return x.defined() ? x.const_data_ptr<T>() : nullptr;
}

inline at::Tensor workspace_on(const at::Tensor& like, size_t bytes) {
  return at::empty({static_cast<int64_t>(bytes)}, like.options().dtype(at::kByte));
}

inline at::Tensor doubles_on(const at::Tensor& like, int64_t n) {
  return at::empty({n}, like.options().dtype(at::kDouble));
}

}  // namespace hone::kernels::cuda
