#pragma once

// Advantages, whitening and group baselines of the ops' C++ face; ops.h includes this and says what
// types and errors all ops share.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

namespace hone::kernels {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

constexpr double kNoClamp = std::numeric_limits<double>::infinity();

struct AdvantageOptions {
  /// Weight of the reference KL inside the reward (beta).
  double kl_coef = 0.0;
  /// "k1" d, "k2" d^2/2, "k3" e^-d - 1 + d, "abs" |d|, with d = logp_old - logp_ref.
  std::string kl_estimator = "k1";
  /// |d| is clamped to this before the estimator (ALGORITHMS 28).
  double kl_clamp = kNoClamp;
  /// Where a sequence's score is added: "last" = its last entry with mask 1; "after_last" = the
  /// entry after it when the row carries one (EOS + 1 of TRL and sfd), else the last; "per_token" =
  /// nowhere: the rewards are token_rewards, there are no scores.
  std::string placement = "last";
  double gamma = 1.0;
  double lambda = 0.95;
  /// "gae" and "td_lambda": R_t = r_t + gamma ((1 - lambda) V_{t+1} + lambda R_{t+1}), A = R - V,
  /// one formula under two names. "return": the same with lambda = 1, so that values are no more
  /// than a baseline. "vtrace": Espeholt et al. 2018, see kernels/math/vtrace.h.
  std::string estimator = "gae";
  /// V-trace bounds of the ratio pi_old / pi_behaviour; kNoClamp = none.
  double rho_clip = 1.0, c_clip = 1.0;
  /// false: `rewards` comes back empty, which saves a sixth of the memory traffic.
  bool store_rewards = true;
};

/// What most callers leave out.
struct AdvantageExtras {
  /// Added to the reward of every entry that takes part: process rewards, or rewards whitened by
  /// the caller (with kl_coef 0 and scores of 0).
  OptionalTensor token_rewards = std::nullopt;
  /// [B] int64, padded input only: entries of a row from this one on are masked.
  OptionalTensor lengths = std::nullopt;
  /// Log-probabilities of the policy that wrote the text; "vtrace" needs them.
  OptionalTensor logp_behaviour = std::nullopt;
  /// [B]: the value after the last entry of each row, for text that was cut off. Default 0.
  OptionalTensor bootstrap_values = std::nullopt;
};

struct Advantages {
  Tensor advantages;  // [N] or [B,T], not whitened
  Tensor returns;     // likewise, R_t (v_t of V-trace) where an entry takes part
  Tensor rewards;     // likewise, per-token reward after KL penalty and score
  Tensor stats;  // [4] float64 on the device: sum, sum of squares of advantages where mask = 1,
                 // count, sum of KL
};

/// One pass over response tokens: KL penalty, reward placement, reverse scan, whitening sums.
///
/// Packed: per-token arrays [N] and cu_seqlens [B+1]. Padded: per-token arrays [B,T] and no
/// cu_seqlens; rows need not follow each other in memory (a slice of columns is read in place). All
/// per-token floats are float32 or float64 of one dtype; bfloat16 is read as float32.
///
/// logp_ref may be absent where kl_coef is 0, values where there is no critic (zeros), scores [B]
/// where there is no score (zeros). mask uint8/bool: a masked step is skipped, its successor's
/// value and trace carry over (multi-turn tool tokens); its inputs are not read and its outputs are
/// 0. A sequence without a mask = 1 entry yields zeros; its score is dropped. placement
/// "after_last": the entry that receives the score is a step of the recursion although its mask is
/// 0: reward = score, no KL, its value is bootstrapped from. Its return is given (the value loss
/// may train it), its advantage is 0 and it does not enter `stats` (golden gae_p1/*). A NaN or
/// infinity among the inputs that are read is refused on the CPU; on CUDA it shows in `stats`. Not
/// differentiable.
Advantages advantages(const Tensor& logp_old, const OptionalTensor& logp_ref,
                      const OptionalTensor& values, const OptionalTensor& scores,
                      const OptionalTensor& cu_seqlens, const OptionalTensor& mask,
                      const AdvantageOptions& options, const AdvantageExtras& extras = {});

/// The same into tensors of the caller (contiguous; `rewards` is not touched unless store_rewards):
/// no allocation, which for millions of tokens on a CPU costs more in page faults than the pass.
void advantages_into(const Advantages& out, const Tensor& logp_old, const OptionalTensor& logp_ref,
                     const OptionalTensor& values, const OptionalTensor& scores,
                     const OptionalTensor& cu_seqlens, const OptionalTensor& mask,
                     const AdvantageOptions& options, const AdvantageExtras& extras = {});

/// `stats` as `whiten` takes them, of any x [N] where mask = 1: sum, sum of squares, count, 0.
/// [4] float64. Stats of several batches or ranks add up to the stats of all.
Tensor moments(const Tensor& x, const OptionalTensor& mask);

/// (x - mean) / sqrt(var + 1e-8) with the moments in `stats` (as `advantages` left them), any
/// shape. `unbiased`: Bessel-corrected variance. `shift_mean` false keeps the mean: + mean
/// (ALGORITHMS 27, 31). Every entry of x is transformed; masked ones are the caller's to ignore.
Tensor whiten(const Tensor& x, const Tensor& stats, bool unbiased, bool shift_mean);

struct GroupAdvantageOptions {
  /// "grpo": (s - mean) / (std + eps) (DeepSeekMath 2024). "dr_grpo": s - mean (Liu et al. 2025).
  /// "rloo": s - mean of the others (Ahmadian et al. 2024). "grpo_loo": (s - mean of the others) /
  /// (std of the others + eps). "reinforce_pp": (s - mean) / sqrt(var + 1e-8) over the whole batch
  /// (Hu 2025). "reinforce_pp_baseline": s - mean of the group, and that whitened over the batch.
  std::string kind = "grpo";
  /// Added to the standard deviation: TRL 1e-4, verl 1e-6, oat 1e-8, OpenRLHF 1e-9.
  double eps = 1e-6;
  /// Bessel's correction in the standard deviations, of groups and of the batch.
  bool unbiased = true;
  /// Groups of one: "zero" (TRL), or "raw": mean 0 and std 1 (verl's grpo and its rloo loop).
  std::string singletons = "zero";
};

/// Advantages [M] of scores [M] against the other samples of their prompt. Groups are `group_size`
/// consecutive samples, or, with group_size 0, lie between cu_groups [G+1] int64. Equal scores in a
/// group give exactly 0 before a whitening over the batch. token_counts [M] int64 (kinds over the
/// batch only): each sample counts as often as it has tokens, as whitening over tokens does.
Tensor group_advantages(const Tensor& scores, int64_t group_size,
                        const GroupAdvantageOptions& options,
                        const OptionalTensor& cu_groups = std::nullopt,
                        const OptionalTensor& token_counts = std::nullopt);

}  // namespace hone::kernels
