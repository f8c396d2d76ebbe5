#include <ATen/Dispatch.h>
#include <torch/library.h>

#include <type_traits>

#include "kernels/cpu/fixed_order_sum.h"
#include "kernels/cpu/loss_rows.h"
#include "kernels/loss_inputs.h"
#include "kernels/loss_options.h"
#include "kernels/loss_outputs.h"
#include "kernels/math/preference.h"

namespace hone::kernels {
namespace {

template <typename T>
math::PreferenceSum run(const PreferenceInputs& in, const math::PreferenceParams<T>& p, T* grad) {
  const T *delta = in.delta.const_data_ptr<T>(), *target = in.target.const_data_ptr<T>(),
          *weight = in.weights.const_data_ptr<T>();
  const T* margin = in.margin.defined() ? in.margin.const_data_ptr<T>() : nullptr;
  return sum_in_blocks<math::PreferenceSum>(
      in.delta.numel(), [=](math::PreferenceSum& s, int64_t begin, int64_t end) {
        if constexpr (std::is_same_v<T, float>) {
          if (vectorised(p)) {
            s = preference_rows({delta + begin, target + begin, weight + begin,
                                 margin != nullptr ? margin + begin : nullptr, grad + begin,
                                 end - begin});
            return;
          }
        }
        for (int64_t i = begin; i < end; ++i) {
          grad[i] = 0;
          if (weight[i] == 0) continue;
          const T z = margin == nullptr ? delta[i] : delta[i] - margin[i];
          const auto nll = math::preference_nll(z, target[i], p);
          grad[i] = weight[i] * nll.derivative;
          s.loss += static_cast<double>(weight[i]) * nll.value;
        }
      });
}

std::tuple<at::Tensor, at::Tensor> preference_loss_cpu(
    const at::Tensor& delta, const at::Tensor& target, const at::Tensor& weights,
    const OptionalTensor& margin, std::string_view model, double tie, double lapse) {
  const auto params = preference_params("preference_loss", model, tie, lapse);
  const PreferenceInputs in = check_preference_loss(delta, target, weights, margin);
  const LossOutputs out = loss_outputs(in.delta, 0);
  AT_DISPATCH_FLOATING_TYPES(in.delta.scalar_type(), "preference_loss", [&] {
    store_sums<scalar_t>(run(in, cast<scalar_t>(params), out.grad.mutable_data_ptr<scalar_t>()),
                         out);
  });
  return {out.loss, out.grad};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) { m.impl("preference_loss_with_grad", &preference_loss_cpu); }

}  // namespace hone::kernels
