#pragma once

// Online training: PPO and its critic-free relatives (ppo_options.h; ALGORITHMS.md 1.3-1.6).
// Rollouts are packed; log-probabilities of rollout, old, reference and current policy come from
// one op.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/generation/generator.h"
#include "engine/models/causal_lm.h"
#include "engine/packing/packed_batch.h"
#include "engine/trainers/ppo_options.h"
#include "engine/trainers/training_context.h"
#include "reward/normalization.h"

namespace hone::engine {

struct PpoProblem {
  CausalLM* actor = nullptr;      // trained in place
  CausalLM* reference = nullptr;  // frozen
  CausalLM* critic = nullptr;     // trained in place; null but for "ppo"
  /// Raw scores of whole texts (prompt + response tokens); a reward model or an external program.
  std::function<std::vector<float>(const std::vector<TokenIds>&)> score;
  /// The model that `score` asks, if it is one: it may then be held in parts (ranks.frozen).
  CausalLM* reward_model = nullptr;
  /// `score` may be called on rank 0 only, with all texts at once (an external program).
  bool score_alone = false;
  reward::Normalization normalization;
  std::vector<TokenIds> prompts;
  std::vector<int64_t> eos_ids;  // none: texts have no end, and none misses it
  uint64_t seed = 0;
  /// Added to every value of the critic (not trained): the scalar head has no bias, and a critic
  /// that starts as the reward model needs -mean/std of the normalisation.
  double value_offset = 0.0;
  /// Called before each iteration's rollout (0, 1, ...), e.g. to look at the policy; its time is
  /// not counted as training. May be empty.
  std::function<void(int64_t iteration)> before_iteration;
};

struct PpoResult {
  int64_t iterations = 0, tokens = 0;  // response tokens
  double seconds = 0, seconds_rollout = 0, seconds_scoring = 0, seconds_update = 0;
  /// Largest |ratio - 1| and approximate KL of the first minibatch over all updates (0 exactly).
  double first_ratio_error = 0, first_approx_kl = 0;
};

/// Trains actor and critic in place; one metrics step an iteration, stage "ppo". Throws
/// data::InputError for options that cannot be, data::Error for scores or gradients that are not
/// finite, Interrupted between minibatches (and inside the rollout) when asked to stop.
PpoResult train_ppo(PpoProblem& problem, const PpoOptions& options, const TrainingContext& context);

/// Sum over response tokens of log pi - log ref, nats a text, for given responses (0 for an empty
/// one). Averaged over samples of `policy`, it estimates KL(policy || reference).
std::vector<double> sequence_kl(CausalLM& policy, CausalLM& reference,
                                const std::vector<TokenIds>& prompts,
                                const std::vector<TokenIds>& responses, double temperature);

}  // namespace hone::engine
