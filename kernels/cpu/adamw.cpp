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
template <typename T, typename G>
void step(const math::AdamWSpan<T, G>& a, T grad_scale, const math::AdamWCoefficients<T>& given) {
  T* HWY_RESTRICT param = a.param;
  const G* HWY_RESTRICT grad = a.grad;
  T* HWY_RESTRICT m = a.m;
  T* HWY_RESTRICT v = a.v;
  math::Bfloat16* HWY_RESTRICT rounded = a.rounded;
  const math::AdamWCoefficients<T> c = given;
  if (rounded == nullptr) {
    for (int64_t i = 0; i < a.size; ++i) {
      math::adamw_element(param[i], T(math::widen(grad[i])) * grad_scale, m[i], v[i], c);
    }
    return;
  }
  if constexpr (sizeof(T) == sizeof(float)) {
    for (int64_t i = 0; i < a.size; ++i) {
      math::adamw_element(param[i], T(math::widen(grad[i])) * grad_scale, m[i], v[i], c);
      math::narrow(param[i], rounded[i]);
    }
  }
}

void step_f32(const math::AdamWSpan<float, float>& a, float grad_scale,
              const math::AdamWCoefficients<float>& c) {
  step(a, grad_scale, c);
}
void step_f64(const math::AdamWSpan<double, double>& a, double grad_scale,
              const math::AdamWCoefficients<double>& c) {
  step(a, grad_scale, c);
}
void step_low_grad(const math::AdamWSpan<float, math::Bfloat16>& a, float grad_scale,
                   const math::AdamWCoefficients<float>& c) {
  step(a, grad_scale, c);
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
HWY_EXPORT(step_low_grad);

namespace {

using at::Tensor;

/// `run(span, scale, coefficients)` over all slices.
template <typename T, typename G, typename Run>
void over_slices(const std::vector<AdamWSlice>& slices, const math::AdamWSpan<T, G>& arena,
                 double scale, const Run& run) {
  at::parallel_for(slices.front().begin, slices.back().end, 16384, [&](int64_t begin, int64_t end) {
    // The slice in which `begin` lies; empty slices cannot hold it.
    auto slice = std::upper_bound(slices.begin(), slices.end(), begin,
                                  [](int64_t at, const AdamWSlice& s) { return at < s.end; });
    for (; slice != slices.end() && slice->begin < end; ++slice) {
      const int64_t from = std::max(begin, slice->begin), to = std::min(end, slice->end);
      const auto part = arena.part(from, to);
      run(part, static_cast<T>(scale), cast<T>(slice->coefficients));
    }
  });
}

void adamw_step_cpu(const Tensor& param, const Tensor& grad, const Tensor& m, const Tensor& v,
                    at::IntArrayRef offsets, at::ArrayRef<double> lr,
                    at::ArrayRef<double> weight_decay, const Tensor& grad_scale, int64_t step,
                    double beta1, double beta2, double eps, c10::string_view eps_mode,
                    const std::optional<Tensor>& rounded) {
  const auto slices = adamw_slices(param, grad, m, v, offsets, lr, weight_decay, grad_scale, step,
                                   beta1, beta2, eps, {eps_mode.data(), eps_mode.size()}, rounded);
  if (slices.empty()) return;
  const double scale = grad_scale.item<double>();
  auto* low = rounded ? static_cast<math::Bfloat16*>(rounded->mutable_data_ptr()) : nullptr;
  if (grad.scalar_type() == at::kBFloat16) {
    const math::AdamWSpan<float, math::Bfloat16> arena{
        param.data_ptr<float>(),
        static_cast<const math::Bfloat16*>(grad.const_data_ptr()),
        m.data_ptr<float>(),
        v.data_ptr<float>(),
        low,
        param.numel()};
    return over_slices(slices, arena, scale, HWY_DYNAMIC_DISPATCH(step_low_grad));
  }
  AT_DISPATCH_FLOATING_TYPES(param.scalar_type(), "adamw_step", [&] {
    const math::AdamWSpan<scalar_t, scalar_t> arena{param.data_ptr<scalar_t>(),
                                                    grad.const_data_ptr<scalar_t>(),
                                                    m.data_ptr<scalar_t>(),
                                                    v.data_ptr<scalar_t>(),
                                                    low,
                                                    param.numel()};
    over_slices(slices, arena, scale, HONE_DISPATCH(scalar_t, step));
  });
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) { m.impl("adamw_step", &adamw_step_cpu); }

}  // namespace hone::kernels

#endif  // HWY_ONCE
