#include "kernels/autograd/scalar_loss.h"

#include <ATen/ops/mul.h>

#include "kernels/autograd/differentiable_once.h"

namespace hone::kernels {

at::Tensor ScalarLoss::forward(torch::autograd::AutogradContext* ctx, const at::Tensor&,
                               const std::optional<at::Tensor>&, const LossAndGrads& result,
                               const std::string& op) {
  ctx->save_for_backward(result.grads);
  ctx->saved_data["op"] = op;
  return result.loss;
}

torch::autograd::variable_list ScalarLoss::backward(torch::autograd::AutogradContext* ctx,
                                                    torch::autograd::variable_list grad_output) {
  refuse_second_derivative(ctx->saved_data["op"].toStringRef().c_str());
  torch::autograd::variable_list out(4);
  if (!grad_output[0].defined()) return out;
  const auto saved = ctx->get_saved_variables();
  for (size_t i = 0; i < saved.size(); ++i) out[i] = at::mul(grad_output[0], saved[i]);
  return out;
}

}  // namespace hone::kernels
