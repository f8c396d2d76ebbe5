#include <ATen/Dispatch.h>
#include <torch/library.h>

#include "kernels/cpu/fixed_order_sum.h"
#include "kernels/loss_inputs.h"
#include "kernels/loss_outputs.h"
#include "kernels/math/value.h"

namespace hone::kernels {
namespace {

std::tuple<at::Tensor, at::Tensor, at::Tensor> value_loss_cpu(const at::Tensor& values,
                                                              const at::Tensor& values_old,
                                                              const at::Tensor& returns,
                                                              const at::Tensor& token_weights,
                                                              double clip) {
  const ValueInputs in = check_value_loss(values, values_old, returns, token_weights, clip);
  const LossOutputs out = loss_outputs(in.values, math::ValueSums::kMetrics);
  AT_DISPATCH_FLOATING_TYPES(in.values.scalar_type(), "value_loss", [&] {
    const scalar_t* now = in.values.const_data_ptr<scalar_t>();
    const scalar_t* old = in.values_old.const_data_ptr<scalar_t>();
    const scalar_t* target = in.returns.const_data_ptr<scalar_t>();
    const scalar_t* weight = in.token_weights.const_data_ptr<scalar_t>();
    scalar_t* d = out.grad.mutable_data_ptr<scalar_t>();
    const auto sums = sum_in_blocks<math::ValueSums>(
        in.values.numel(), [=](math::ValueSums& s, int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) {
            d[i] = 0;
            if (weight[i] == 0) continue;
            const auto token =
                math::value_token(now[i], old[i], target[i], static_cast<scalar_t>(clip));
            d[i] = weight[i] * token.derivative;
            s.add(token, weight[i]);
          }
        });
    store_sums<scalar_t>(sums, out);
  });
  return {out.loss, out.metrics, out.grad};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) { m.impl("value_loss_with_grad", &value_loss_cpu); }

}  // namespace hone::kernels
