#pragma once

// Tensors of a loss after its checks (see inputs.h).

#include <ATen/core/Tensor.h>

#include "kernels/inputs.h"

namespace hone::kernels {

struct PolicyInputs {
  at::Tensor logp_new, logp_old, advantages, token_weights;  // [N]
  at::Tensor logp_ref;                                       // [N] or undefined
};
PolicyInputs check_policy_loss(const at::Tensor& logp_new, const at::Tensor& logp_old,
                               const at::Tensor& advantages, const OptionalTensor& logp_ref,
                               const at::Tensor& token_weights);

struct ValueInputs {
  at::Tensor values, values_old, returns, token_weights;  // [N]
};
ValueInputs check_value_loss(const at::Tensor& values, const at::Tensor& values_old,
                             const at::Tensor& returns, const at::Tensor& token_weights,
                             double clip);

struct PreferenceInputs {
  at::Tensor delta, target, weights;  // [P]
  at::Tensor margin;                  // [P] or undefined
};
/// Target values are read, and refused outside [0, 1], only on CPU.
PreferenceInputs check_preference_loss(const at::Tensor& delta, const at::Tensor& target,
                                       const at::Tensor& weights, const OptionalTensor& margin);

}  // namespace hone::kernels
