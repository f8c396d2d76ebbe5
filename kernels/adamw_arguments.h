#pragma once

// What adamw_step checks and derives from its arguments, on CPU and CUDA alike.

#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>
#include <vector>

#include "kernels/math/adamw.h"

namespace hone::kernels {

struct AdamWSlice {
  int64_t begin, end;  // elements of the arena
  math::AdamWCoefficients<double> coefficients;
};

std::vector<AdamWSlice> adamw_slices(const at::Tensor& param, const at::Tensor& grad,
                                     const at::Tensor& m, const at::Tensor& v,
                                     at::IntArrayRef offsets, at::ArrayRef<double> lr,
                                     at::ArrayRef<double> weight_decay,
                                     const at::Tensor& grad_scale, int64_t step, double beta1,
                                     double beta2, double eps, std::string_view eps_mode,
                                     const std::optional<at::Tensor>& rounded);

/// What the op `scale` takes: x in place, factor one float64 on the device of x.
void check_scale(const at::Tensor& x, const at::Tensor& factor);

template <typename T>
math::AdamWCoefficients<T> cast(const math::AdamWCoefficients<double>& c) {
  return {static_cast<T>(c.beta1),
          static_cast<T>(c.beta2),
          static_cast<T>(c.one_minus_beta1),
          static_cast<T>(c.one_minus_beta2),
          static_cast<T>(c.decay),
          static_cast<T>(c.step_size),
          static_cast<T>(c.denominator_scale),
          static_cast<T>(c.eps)};
}

}  // namespace hone::kernels
