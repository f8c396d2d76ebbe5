#pragma once

// A loss whose forward pass already produced d loss / d input. Backward multiplies by the incoming
// scalar, so no formula is written a second time and nothing is recomputed.

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/custom_function.h>

namespace hone::kernels {

struct LossAndGrad {
  at::Tensor loss;  // []
  at::Tensor grad;  // like the input
};

struct ScalarLoss : torch::autograd::Function<ScalarLoss> {
  /// `op` names the op in the message that refuses a second derivative.
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& input,
                            const LossAndGrad& result, const std::string& op);

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grad_output);
};

}  // namespace hone::kernels
