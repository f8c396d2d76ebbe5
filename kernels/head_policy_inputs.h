#pragma once

// What CPU and CUDA check of head_policy_loss beyond the head itself (composite/chunked_head.h).

#include <ATen/core/Tensor.h>

#include "kernels/inputs.h"
#include "kernels/loss_options.h"

namespace hone::kernels {

/// [N] each, contiguous, in the type that the op computes in; undefined where not used.
struct HeadPolicyTokens {
  at::Tensor logp_old, advantages, token_weights, logp_ref, logp_behaviour;
  math::PolicyParams<double> params;
};

/// Kinds whose ratio is a sequence's are refused: every token's gradient would wait for the last
/// token's logits.
HeadPolicyTokens check_head_policy(const at::Tensor& hidden, const at::Tensor& logp_old,
                                   const at::Tensor& advantages, const OptionalTensor& logp_ref,
                                   const at::Tensor& token_weights,
                                   const OptionalTensor& logp_behaviour,
                                   const PolicySettings& settings, double entropy_coef);

}  // namespace hone::kernels
