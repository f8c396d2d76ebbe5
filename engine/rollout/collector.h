#pragma once

// Prompts to scored texts.

#include <cstdint>
#include <functional>
#include <vector>

#include "engine/distributed/shard_tree.h"
#include "engine/generation/generator.h"
#include "engine/models/causal_lm.h"
#include "engine/rollout/response.h"
#include "engine/rollout/rollout.h"
#include "reward/normalization.h"

namespace hone::engine {

struct RolloutOptions {
  int64_t samples_per_prompt = 1;
  int64_t max_new_tokens = 40;
  double temperature = 1.0;
  std::vector<int64_t> eos_ids;  // none: texts have no end, and none misses it
  int64_t seed = 0;
  /// An entry for the state after the end of texts shorter than max_new_tokens.
  bool final_states = false;
};

/// Indices of `count` of `prompts` prompts for one iteration: without replacement while there are
/// enough, then a new permutation. Depends on (seed, iteration) only.
std::vector<int64_t> draw_prompts(int64_t prompts, int64_t count, uint64_t seed, int64_t iteration);

/// Samples `samples_per_prompt` responses to each prompt, in order (prompt, sample); fills the
/// fields of a Rollout down to behaviour_logprobs. Random numbers are keyed by the place of a
/// prompt in `prompts`. With ranks, each samples the shards of `span` (prompts dealt by tokens, in
/// order), and every rank gets the whole rollout.
Rollout sample_texts(CausalLM& policy, const std::vector<TokenIds>& prompts,
                     const RolloutOptions& options, Communicator& communicator = world_of_one(),
                     const ShardSpan& span = {});

/// `count` groups of `group_size` texts, for a critic-free algorithm: all of a scored rollout whose
/// raw scores differ within the group, more of them from `next_round` (a scored rollout of other
/// prompts, 1, 2, ...) while some are missing and fewer than `most_rounds` have been sampled, then
/// those without a difference, in order (dynamic sampling of DAPO, Yu et al. 2025).
struct DifferingGroups {
  Rollout rollout;
  int64_t rounds = 0, flat = 0;  // sampled; groups without a difference in `rollout`
};
DifferingGroups groups_that_differ(int64_t count, int64_t group_size, int64_t most_rounds,
                                   const std::function<Rollout(int64_t round)>& next_round);

/// A rollout of given responses, without behaviour log-probabilities.
Rollout given_texts(const std::vector<TokenIds>& prompts, const std::vector<TokenIds>& responses,
                    at::Device device);

struct ScoringOptions {
  reward::Normalization normalization;
  MissingEos missing_eos = MissingEos::kKeep;
  double eos_penalty = 0.0;
  bool eos_exists = true;
  /// overlong_score of responses of up to `limit` tokens; margin 0 = none.
  int64_t overlong_margin = 0, overlong_limit = 0;
  double overlong_penalty = 0.0;
  /// `score` is called once, on rank 0, with all texts (an external program), and not with each
  /// shard's where that is dealt to.
  bool alone = false;
  /// Called on every rank after its last call of `score`. May be empty.
  std::function<void()> done;
};

/// Fills the score fields, on every rank. Throws data::Error when `score` returns another number of
/// scores, or one that is not finite.
void score_texts(Rollout& rollout,
                 const std::function<std::vector<float>(const std::vector<TokenIds>&)>& score,
                 const ScoringOptions& options, Communicator& communicator = world_of_one(),
                 const ShardSpan& span = {});

}  // namespace hone::engine
