#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <torch/library.h>

#include <algorithm>

#include "kernels/adamw_arguments.h"

namespace hone::kernels {
namespace {

using at::Tensor;

template <typename T>
void step_range(T* param, const T* grad, T* m, T* v, int64_t begin, int64_t end, T grad_scale,
                const math::AdamWCoefficients<T>& c) {
  for (int64_t i = begin; i < end; ++i) {
    math::adamw_element(param[i], grad[i] * grad_scale, m[i], v[i], c);
  }
}

void adamw_step_cpu(const Tensor& param, const Tensor& grad, const Tensor& m, const Tensor& v,
                    at::IntArrayRef offsets, at::ArrayRef<double> lr,
                    at::ArrayRef<double> weight_decay, const Tensor& grad_scale, int64_t step,
                    double beta1, double beta2, double eps, c10::string_view eps_mode) {
  const auto slices = adamw_slices(param, grad, m, v, offsets, lr, weight_decay, grad_scale, step,
                                   beta1, beta2, eps, {eps_mode.data(), eps_mode.size()});
  if (slices.empty()) return;
  const double scale = grad_scale.item<double>();
  AT_DISPATCH_FLOATING_TYPES(param.scalar_type(), "adamw_step", [&] {
    const int64_t first = slices.front().begin, last = slices.back().end;
    at::parallel_for(first, last, 16384, [&](int64_t begin, int64_t end) {
      // The slice in which `begin` lies; empty slices cannot hold it.
      auto slice = std::upper_bound(slices.begin(), slices.end(), begin,
                                    [](int64_t at, const AdamWSlice& s) { return at < s.end; });
      for (; slice != slices.end() && slice->begin < end; ++slice) {
        step_range(param.data_ptr<scalar_t>(), grad.const_data_ptr<scalar_t>(),
                   m.data_ptr<scalar_t>(), v.data_ptr<scalar_t>(), std::max(begin, slice->begin),
                   std::min(end, slice->end), static_cast<scalar_t>(scale),
                   cast<scalar_t>(slice->coefficients));
      }
    });
  });
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) { m.impl("adamw_step", &adamw_step_cpu); }

}  // namespace hone::kernels
