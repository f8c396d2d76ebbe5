#pragma once

// A loss whose forward pass already produced its gradients. Backward multiplies them by the
// incoming scalar, so no formula is written a second time and nothing is recomputed.

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <string>
#include <vector>

namespace hone::kernels {

struct LossAndGrads {
  at::Tensor loss;                // []
  std::vector<at::Tensor> grads;  // like the inputs, one or two
};

struct ScalarLoss : torch::autograd::Function<ScalarLoss> {
  /// `op` names the op in the message that refuses a second derivative.
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& first,
                            const std::optional<at::Tensor>& second, const LossAndGrads& result,
                            const std::string& op);

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grad_output);
};

}  // namespace hone::kernels
