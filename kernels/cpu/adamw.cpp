#include "kernels/math/adamw.h"

#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/adamw.cpp"
#include "kernels/cpu/highway_targets.h"
// After the targets.
#include "hwy/foreach_target.h"
// After foreach_target.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {
namespace {

/// The formula of kernels/math as it stands: the compiler vectorises the loop for each target.
template <typename T>
void step(T* HWY_RESTRICT param, const T* HWY_RESTRICT grad, T* HWY_RESTRICT m, T* HWY_RESTRICT v,
          int64_t size, T grad_scale, const math::AdamWCoefficients<T> c) {
  for (int64_t i = 0; i < size; ++i) {
    math::adamw_element(param[i], grad[i] * grad_scale, m[i], v[i], c);
  }
}

void step_f32(float* param, const float* grad, float* m, float* v, int64_t size, float grad_scale,
              const math::AdamWCoefficients<float>& c) {
  step(param, grad, m, v, size, grad_scale, c);
}
void step_f64(double* param, const double* grad, double* m, double* v, int64_t size,
              double grad_scale, const math::AdamWCoefficients<double>& c) {
  step(param, grad, m, v, size, grad_scale, c);
}

}  // namespace
}  // namespace hone::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include <algorithm>

#include "kernels/adamw_arguments.h"
#include "kernels/cpu/float_dispatch.h"

namespace hone::kernels {

HONE_EXPORT(step);

namespace {

using at::Tensor;

void adamw_step_cpu(const Tensor& param, const Tensor& grad, const Tensor& m, const Tensor& v,
                    at::IntArrayRef offsets, at::ArrayRef<double> lr,
                    at::ArrayRef<double> weight_decay, const Tensor& grad_scale, int64_t step,
                    double beta1, double beta2, double eps, c10::string_view eps_mode) {
  const auto slices = adamw_slices(param, grad, m, v, offsets, lr, weight_decay, grad_scale, step,
                                   beta1, beta2, eps, {eps_mode.data(), eps_mode.size()});
  if (slices.empty()) return;
  const double scale = grad_scale.item<double>();
  AT_DISPATCH_FLOATING_TYPES(param.scalar_type(), "adamw_step", [&] {
    const auto run = HONE_DISPATCH(scalar_t, step);
    const int64_t first = slices.front().begin, last = slices.back().end;
    at::parallel_for(first, last, 16384, [&](int64_t begin, int64_t end) {
      // The slice in which `begin` lies; empty slices cannot hold it.
      auto slice = std::upper_bound(slices.begin(), slices.end(), begin,
                                    [](int64_t at, const AdamWSlice& s) { return at < s.end; });
      for (; slice != slices.end() && slice->begin < end; ++slice) {
        const int64_t from = std::max(begin, slice->begin), to = std::min(end, slice->end);
        run(param.data_ptr<scalar_t>() + from, grad.const_data_ptr<scalar_t>() + from,
            m.data_ptr<scalar_t>() + from, v.data_ptr<scalar_t>() + from, to - from,
            static_cast<scalar_t>(scale), cast<scalar_t>(slice->coefficients));
      }
    });
  });
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) { m.impl("adamw_step", &adamw_step_cpu); }

}  // namespace hone::kernels

#endif  // HWY_ONCE
