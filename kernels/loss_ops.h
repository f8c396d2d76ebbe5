#pragma once

// The losses and the language-model head of the ops' C++ face; ops.h includes this and says what
// layout, types and errors all ops share.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>

namespace hone::kernels {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

// ---------------------------------------------------------------- language-model head

struct TokenLogprobs {
  Tensor logprobs;  // [N] float32 (float64 for float64 input): log softmax(h W^T /
                    // temperature)[target]
  Tensor entropy;   // [N] of the same distribution; carries no gradient
};

/// From hidden states [N,H] and head weight [V,H] to log-probabilities of targets [N] int64, in
/// chunks of tokens: [N,V] never exists whole. Differentiable in hidden and weight (recompute).
TokenLogprobs token_logprobs(const Tensor& hidden, const Tensor& weight, const Tensor& targets,
                             double temperature);

struct HeadLoss {
  Tensor loss;      // [] sum_i token_weights[i] * (-logprob_i)
  Tensor logprobs;  // [N], detached
};

/// Weighted negative log-likelihood with the gradient folded into the forward chunk (three GEMMs,
/// not four). token_weights [N] float32 already hold mask and global denominator.
HeadLoss head_nll(const Tensor& hidden, const Tensor& weight, const Tensor& targets,
                  const Tensor& token_weights, double temperature);

struct PolicyLossOptions {
  double clip_low = 0.2;  // ratio is clipped to [1 - clip_low, 1 + clip_high]
  double clip_high = 0.2;
  double dual_clip = 0.0;  // c > 1; 0 = off
  /// Weight and estimator ("k1","k2","k3") of a reference KL inside the loss; 0 = off.
  double kl_coef = 0.0;
  std::string kl_estimator = "k3";
};

struct PolicyLoss {
  Tensor loss;  // [] sum_i token_weights[i] * loss_i
  /// [5] float64, detached, each weighted by token_weights: clip fraction, approx KL
  /// 0.5*(new-old)^2, mean log ratio k1 (old-new), mean ratio, max |ratio - 1| (not weighted).
  Tensor metrics;
};

/// Clipped surrogate per token; aggregation is the caller's token_weights [N] (token mean:
/// 1/count; sequence mean of token means: 1/(B*len); constant: 1/(B*L_max)), so that the loss does
/// not depend on micro-batches or ranks. A token of weight 0 is skipped whatever it holds.
/// Differentiable (once) in logp_new; the other arguments are constants.
PolicyLoss policy_loss(const Tensor& logp_new, const Tensor& logp_old, const Tensor& advantages,
                       const OptionalTensor& logp_ref, const Tensor& token_weights,
                       const PolicyLossOptions& options);

struct HeadPolicyLoss {
  Tensor loss;      // []
  Tensor metrics;   // [5] as PolicyLoss
  Tensor logprobs;  // [N], detached
  Tensor entropy;   // [N], detached
};

/// token_logprobs + policy_loss with the gradient folded into the forward chunk. Bit-equal
/// log-probabilities to token_logprobs for the same hidden, weight and N.
HeadPolicyLoss head_policy_loss(const Tensor& hidden, const Tensor& weight, const Tensor& targets,
                                const Tensor& logp_old, const Tensor& advantages,
                                const OptionalTensor& logp_ref, const Tensor& token_weights,
                                double temperature, const PolicyLossOptions& options);

struct ValueLoss {
  Tensor loss;     // [] sum_i token_weights[i] * 0.5 * max((v-R)^2, (clip(v)-R)^2)
  Tensor metrics;  // [2] float64: clip fraction, sum token_weights*(v-R)^2
};
/// clip <= 0: no clipping. A token of weight 0 is skipped. Differentiable (once) in values.
ValueLoss value_loss(const Tensor& values, const Tensor& values_old, const Tensor& returns,
                     const Tensor& token_weights, double clip);

// ---------------------------------------------------------------- preferences

struct PreferenceLossOptions {
  /// "bradley_terry": soft target, tie = 0.5. "davidson", "rao_kupper": explicit tie probability
  /// with parameter `tie` (nu >= 0, theta >= 1); target exactly 0.5 is then a tie.
  std::string model = "bradley_terry";
  double tie = 0.0;
  /// Likelihood (1 - 2*lapse) * p + lapse (Christiano's 10 %: lapse 0.05); 0 = off.
  double lapse = 0.0;
};
/// Sum_p weights[p] * nll(delta[p] - margin[p], target[p]); delta [P] = score of the first minus
/// the second; target [P] in [0,1]; weights [P] of any sign, 0 = skipped; margin optional.
/// Differentiable (once) in delta.
Tensor preference_loss(const Tensor& delta, const Tensor& target, const Tensor& weights,
                       const OptionalTensor& margin, const PreferenceLossOptions& options);

}  // namespace hone::kernels
