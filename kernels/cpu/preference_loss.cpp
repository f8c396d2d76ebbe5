#include <ATen/Dispatch.h>
#include <torch/library.h>

#include "kernels/cpu/fixed_order_sum.h"
#include "kernels/loss_inputs.h"
#include "kernels/loss_options.h"
#include "kernels/loss_outputs.h"
#include "kernels/math/preference.h"

namespace hone::kernels {
namespace {

std::tuple<at::Tensor, at::Tensor> preference_loss_cpu(
    const at::Tensor& delta, const at::Tensor& target, const at::Tensor& weights,
    const OptionalTensor& margin, std::string_view model, double tie, double lapse) {
  const auto params = preference_params("preference_loss", model, tie, lapse);
  const PreferenceInputs in = check_preference_loss(delta, target, weights, margin);
  const LossOutputs out = loss_outputs(in.delta, 0);
  AT_DISPATCH_FLOATING_TYPES(in.delta.scalar_type(), "preference_loss", [&] {
    const auto p = cast<scalar_t>(params);
    const scalar_t* difference = in.delta.const_data_ptr<scalar_t>();
    const scalar_t* share = in.target.const_data_ptr<scalar_t>();
    const scalar_t* weight = in.weights.const_data_ptr<scalar_t>();
    const scalar_t* shift = in.margin.defined() ? in.margin.const_data_ptr<scalar_t>() : nullptr;
    scalar_t* d = out.grad.mutable_data_ptr<scalar_t>();
    const auto sums = sum_in_blocks<math::PreferenceSum>(
        in.delta.numel(), [=](math::PreferenceSum& s, int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) {
            d[i] = 0;
            if (weight[i] == 0) continue;
            const scalar_t z = shift == nullptr ? difference[i] : difference[i] - shift[i];
            const auto nll = math::preference_nll(z, share[i], p);
            d[i] = weight[i] * nll.derivative;
            s.loss += static_cast<double>(weight[i]) * nll.value;
          }
        });
    store_sums<scalar_t>(sums, out);
  });
  return {out.loss, out.grad};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) { m.impl("preference_loss_with_grad", &preference_loss_cpu); }

}  // namespace hone::kernels
