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
  Tensor logprobs;  // [N] float32 (float64 for float64 input): log softmax((h W^T + bias) /
                    // temperature)[target]
  Tensor entropy;   // [N] of the same distribution, nats
};

/// From hidden states [N,H] and head weight [V,H], perhaps bias [V], to log-probabilities of
/// targets [N] int64, in chunks of tokens: [N,V] never exists whole. Differentiable (once) in
/// hidden, weight and bias, through logprobs and entropy (logits are recomputed).
TokenLogprobs token_logprobs(const Tensor& hidden, const Tensor& weight, const Tensor& targets,
                             double temperature, const OptionalTensor& bias = std::nullopt);

struct TopLogprobs {
  Tensor logprobs, entropy;  // as token_logprobs
  Tensor top_logprobs;       // [N,k] descending
  Tensor top_ids;            // [N,k] int64
};
/// token_logprobs and the k most likely tokens of every position. Not differentiable.
TopLogprobs token_top_logprobs(const Tensor& hidden, const Tensor& weight, const Tensor& targets,
                               int64_t k, double temperature,
                               const OptionalTensor& bias = std::nullopt);

struct HeadLoss {
  Tensor loss;      // [] sum_i token_weights[i] * (-logprob_i)
  Tensor logprobs;  // [N], detached
};

/// Weighted negative log-likelihood with the gradient folded into the forward chunk (three GEMMs,
/// not four). token_weights [N] float32 already hold mask and global denominator.
HeadLoss head_nll(const Tensor& hidden, const Tensor& weight, const Tensor& targets,
                  const Tensor& token_weights, double temperature,
                  const OptionalTensor& bias = std::nullopt);

struct AggregationOptions {
  /// "token_mean" (DAPO), "seq_mean_token_mean" (GRPO), "seq_mean_token_sum", "constant" (Dr.GRPO,
  /// TRL's form: divided by sequences * length; verl's leaves the sequences out).
  std::string aggregation = "token_mean";
  /// Counts over the global batch of tokens that take part and of sequences with at least one.
  /// None: those of this call, read from the tensors (which on CUDA stops the stream).
  std::optional<double> tokens, sequences;
  int64_t length = 0;  // "constant": tokens a sequence is counted as
};
/// The `token_weights` [N] of the losses: mask [N] uint8/bool of the tokens that take part,
/// cu_seqlens [B+1]. In double, rounded once to dtype; 0 where mask is 0. With global counts the
/// losses of micro-batches and ranks add up to the loss of the whole.
Tensor token_weights(const Tensor& mask, const Tensor& cu_seqlens,
                     const AggregationOptions& options, at::ScalarType dtype = at::kFloat);

struct PolicyLossOptions {
  double clip_low = 0.2;  // ratio is clipped to [1 - clip_low, 1 + clip_high]
  double clip_high = 0.2;
  double dual_clip = 0.0;  // c > 1; 0 = off
  /// Weight and estimator ("k1","k2","k3") of a reference KL inside the loss; 0 = off.
  double kl_coef = 0.0;
  std::string kl_estimator = "k3";
  /// "ppo": max(-A r, -A clip(r)), r = exp(new - old). The same with a sequence's ratio, which
  /// needs cu_seqlens: "gspo" exp(mean of new - old), "gspo_token" the same value whose gradient
  /// stays with each token (verl's form), "rloo" exp(sum). "cispo": -stop(clip(r)) A log pi.
  /// "sapo": -A (4/tau) sigma(tau (r - 1)). "reinforce": -A log pi.
  std::string kind = "ppo";
  double tau_positive = 1.0;  // sapo: tau where A > 0
  double tau_negative = 1.05;
  /// What becomes of the weight w = exp(old - behaviour) where logp_behaviour is given: held inside
  /// [behaviour_low, behaviour_high] ("token_truncate": TIS) or 0 outside ("token_mask": IcePop);
  /// "sequence_truncate", "sequence_mask": w of the whole sequence (needs cu_seqlens). It
  /// multiplies the surrogate, not the reference KL, and carries no gradient.
  std::string behaviour = "token_truncate";
  double behaviour_low = 0.0;
  double behaviour_high = 2.0;
};

struct PolicyLoss {
  Tensor loss;  // [] sum_i token_weights[i] * loss_i
  /// [10] float64, detached. All but [4] are weighted by token_weights and add up over
  /// micro-batches: [0] share of tokens whose clipped branch won (cispo: whose ratio was changed),
  /// [1] approx KL 0.5*(new-old)^2, [2] k1 (old-new), [3] ratio, [4] max |ratio - 1| (not
  /// weighted), [5] entropy (exact from head_policy_loss, here the sample's -logp_new), [6]
  /// reference KL (0 where kl_coef is 0), [7] share held by dual_clip, [8] behaviour weight, [9]
  /// share of tokens whose behaviour weight was held or masked.
  Tensor metrics;
};

/// Policy-gradient loss per token. Aggregation is token_weights [N] (see there). A token of weight
/// 0 is skipped whatever it holds and is no token of its sequence. Differentiable (once) in
/// logp_new; the other arguments are constants. Ratios of sequences and of a behaviour policy:
/// Zheng et al. 2025 (GSPO), Espeholt et al. 2018 (truncated importance sampling).
PolicyLoss policy_loss(const Tensor& logp_new, const Tensor& logp_old, const Tensor& advantages,
                       const OptionalTensor& logp_ref, const Tensor& token_weights,
                       const PolicyLossOptions& options,
                       const OptionalTensor& cu_seqlens = std::nullopt,
                       const OptionalTensor& logp_behaviour = std::nullopt);

struct HeadPolicyLoss {
  Tensor loss;      // []
  Tensor metrics;   // [10] as PolicyLoss
  Tensor logprobs;  // [N], detached
  Tensor entropy;   // [N], detached
};

/// token_logprobs + policy_loss with the gradient folded into the forward chunk. Bit-equal
/// log-probabilities to token_logprobs for the same hidden, weight and N. Kinds and behaviours of
/// single tokens only. loss -= entropy_coef * sum_i token_weights[i] * entropy_i.
HeadPolicyLoss head_policy_loss(const Tensor& hidden, const Tensor& weight, const Tensor& targets,
                                const Tensor& logp_old, const Tensor& advantages,
                                const OptionalTensor& logp_ref, const Tensor& token_weights,
                                double temperature, const PolicyLossOptions& options,
                                const OptionalTensor& bias = std::nullopt,
                                const OptionalTensor& logp_behaviour = std::nullopt,
                                double entropy_coef = 0.0);

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
/// sum_p weights[p] * nll(delta[p] - margin[p], target[p]); delta [P] = score of the first minus
/// the second; target [P] in [0,1]; weights [P] of any sign, 0 = skipped; margin optional.
/// Differentiable (once) in delta.
Tensor preference_loss(const Tensor& delta, const Tensor& target, const Tensor& weights,
                       const OptionalTensor& margin, const PreferenceLossOptions& options);

struct RankingLossOptions {
  /// "plackett_luce": sum over ranked items of log(sum of e^score from it down) - score, ties by
  /// Breslow's form. "bradley_terry", "davidson", "rao_kupper": mean of preference_loss over the
  /// pairs (InstructGPT's K-wise loss; C(K,2) pairs where all are ranked).
  std::string model = "plackett_luce";
  double tie = 0.0;  // as PreferenceLossOptions
  double lapse = 0.0;
};
/// sum_g weights[g] * nll(group g). scores [S] of G ragged groups, cu_seqlens [G+1]; weights [G], 0
/// = skipped. ranks [S] int64: lower is better, equal is a tie, negative is not ranked (below every
/// ranked item, in no order; [0, -1, -1, ...] is pick-best). None: each group stands best first.
/// In double, rounded once. Differentiable (once) in scores.
Tensor ranking_loss(const Tensor& scores, const Tensor& cu_seqlens, const OptionalTensor& ranks,
                    const Tensor& weights, const RankingLossOptions& options = {});

// ---------------------------------------------------------------- direct methods

struct DirectPairs {
  Tensor logp_chosen, logp_rejected;              // [P] sums over the response's tokens
  OptionalTensor ref_chosen, ref_rejected;        // [P]; none = 0. Not for simpo, orpo, cpo
  OptionalTensor length_chosen, length_rejected;  // [P] tokens >= 1, in the type of the others
};
struct DirectLossOptions {
  /// "dpo" (with label_smoothing: cDPO; without references: reference-free), "robust_dpo", "ipo"
  /// (of sums), "ipo_mean" (of means over tokens, TRL's), "hinge", "simpo", "orpo", "cpo" (dpo
  /// without references plus the likelihood of the chosen). Formulas: math/direct.h.
  std::string kind = "dpo";
  double beta = 0.1;  // ipo: tau; orpo: lambda
  double label_smoothing = 0.0;
  double margin = 0.0;  // simpo: gamma in absolute units; dpo: an offset
  /// Weight of -logp_chosen / length_chosen. None: 1 for orpo and cpo, else 0.
  std::optional<double> nll_coef;
};
struct DirectLoss {
  Tensor loss;  // [] sum_p weights[p] * loss_p
  /// [4] float64, weighted. direct_loss: accuracy, reward margin, chosen reward, rejected reward.
  /// kto_loss: sums of reward of the desirable and the undesirable, sums of their weights.
  Tensor metrics;
};
/// weights [P], 0 = skipped. Differentiable (once) in logp_chosen and logp_rejected.
DirectLoss direct_loss(const DirectPairs& pairs, const Tensor& weights,
                       const DirectLossOptions& options);

struct KtoLossOptions {
  double beta = 0.1;
  double desirable_weight = 1.0;
  double undesirable_weight = 1.0;
};
/// Kahneman-Tversky loss of single responses: logp, logp_ref, weights [P], desirable [P]
/// uint8/bool, kl [] = mean of log pi/ref over mismatched pairs of the global batch (a constant;
/// what is below 0 counts as 0). Differentiable (once) in logp.
DirectLoss kto_loss(const Tensor& logp, const Tensor& logp_ref, const Tensor& desirable,
                    const Tensor& weights, const Tensor& kl, const KtoLossOptions& options);

}  // namespace hone::kernels
