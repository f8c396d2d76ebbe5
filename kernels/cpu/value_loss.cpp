#include <ATen/Dispatch.h>
#include <torch/library.h>

#include <type_traits>

#include "kernels/cpu/fixed_order_sum.h"
#include "kernels/cpu/loss_rows.h"
#include "kernels/loss_inputs.h"
#include "kernels/loss_outputs.h"
#include "kernels/math/value.h"

namespace hone::kernels {
namespace {

template <typename T>
math::ValueSums run(const ValueInputs& in, T clip, T* grad) {
  const auto data = [](const at::Tensor& x) { return x.const_data_ptr<T>(); };
  const T *now = data(in.values), *old = data(in.values_old), *target = data(in.returns),
          *weight = data(in.token_weights);
  return sum_in_blocks<math::ValueSums>(
      in.values.numel(), [=](math::ValueSums& s, int64_t begin, int64_t end) {
        if constexpr (std::is_same_v<T, float>) {
          s = value_rows(
              {now + begin, old + begin, target + begin, weight + begin, grad + begin, end - begin},
              clip);
        } else {
          for (int64_t i = begin; i < end; ++i) {
            grad[i] = 0;
            if (weight[i] == 0) continue;
            const auto token = math::value_token(now[i], old[i], target[i], clip);
            grad[i] = weight[i] * token.derivative;
            s.add(token, weight[i]);
          }
        }
      });
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> value_loss_cpu(const at::Tensor& values,
                                                              const at::Tensor& values_old,
                                                              const at::Tensor& returns,
                                                              const at::Tensor& token_weights,
                                                              double clip) {
  const ValueInputs in = check_value_loss(values, values_old, returns, token_weights, clip);
  const LossOutputs out = loss_outputs(in.values, math::ValueSums::kMetrics);
  AT_DISPATCH_FLOATING_TYPES(in.values.scalar_type(), "value_loss", [&] {
    store_sums<scalar_t>(
        run(in, static_cast<scalar_t>(clip), out.grad.mutable_data_ptr<scalar_t>()), out);
  });
  return {out.loss, out.metrics, out.grad};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) { m.impl("value_loss_with_grad", &value_loss_cpu); }

}  // namespace hone::kernels
