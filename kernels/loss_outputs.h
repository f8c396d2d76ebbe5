#pragma once

// What every loss leaves, on CPU and CUDA alike: tensors to be filled.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <cstdint>

#include "kernels/recycled.h"

namespace hone::kernels {

/// d loss / d x.
inline at::Tensor gradient_like(const at::Tensor& x) {
  return recycled_empty(x.sizes(), x.options());
}

struct LossOutputs {
  at::Tensor loss;     // [] in the type of the inputs
  at::Tensor metrics;  // [n] float64
  at::Tensor grad;     // as the first input
};

inline LossOutputs loss_outputs(const at::Tensor& x, int64_t metrics) {
  return {at::empty({}, x.options()), at::empty({metrics}, x.options().dtype(at::kDouble)),
          gradient_like(x)};
}

/// From the sums of a CPU pass, which know their metrics.
template <typename T, typename Sums>
void store_sums(const Sums& sums, const LossOutputs& out) {
  *out.loss.template mutable_data_ptr<T>() = static_cast<T>(sums.loss);
  if constexpr (requires { sums.store(static_cast<double*>(nullptr)); }) {
    sums.store(out.metrics.template mutable_data_ptr<double>());
  }
}

}  // namespace hone::kernels
