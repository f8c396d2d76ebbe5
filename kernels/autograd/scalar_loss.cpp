#include "kernels/autograd/scalar_loss.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/mul.h>

namespace hone::kernels {

at::Tensor ScalarLoss::forward(torch::autograd::AutogradContext* ctx, const at::Tensor&,
                               const LossAndGrad& result, const std::string& op) {
  ctx->save_for_backward({result.grad});
  ctx->saved_data["op"] = op;
  return result.loss;
}

torch::autograd::variable_list ScalarLoss::backward(torch::autograd::AutogradContext* ctx,
                                                    torch::autograd::variable_list grad_output) {
  // The saved gradient is a constant here: a second derivative would silently be wrong.
  TORCH_CHECK(!at::GradMode::is_enabled(), ctx->saved_data["op"].toStringRef(),
              ": backward: expected create_graph=False (differentiable once), got True");
  return {at::mul(grad_output[0], ctx->get_saved_variables()[0]), {}, {}};
}

}  // namespace hone::kernels
