#pragma once

// A rollout cut into the forward passes of an update. Scoring runs over exactly these packs, so
// that every GEMM of the first minibatch has the shape it had when the old log-probabilities were
// computed, and the probability ratio is exactly 1.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "engine/packing/packed_batch.h"
#include "engine/rollout/rollout.h"

namespace hone::engine {

/// One forward pass over N tokens; M response tokens, S >= M states (equal without final states:
/// then the tensors are the same).
struct Pack {
  PackedTokens input;
  at::Tensor actions;         // [M] int64 into [N]: where each response token was chosen
  at::Tensor targets;         // [M] int64: that token
  at::Tensor entries;         // [M] int64: its entry in the rollout
  at::Tensor cu_actions;      // [B+1] int64: the response tokens of text b are [cu[b], cu[b+1])
  at::Tensor states;          // [S] int64 into [N]: every entry's state, final ones too
  at::Tensor state_entries;   // [S] int64
  at::Tensor policy_weights;  // [M] sum to 1 over the minibatch (aggregation)
  at::Tensor value_weights;   // [S] 1 / states of the minibatch
  int64_t shard = 0;          // the logical shard that it is of
  /// The actor's hidden states at `actions` and the critic's at `states` with their graphs, where
  /// scoring left them for the update's first step, which has the same weights.
  at::Tensor actor_hidden, critic_hidden;
};

/// One optimizer step: gradients of its packs add up.
using Minibatch = std::vector<Pack>;

struct MinibatchOptions {
  int64_t minibatches = 1;
  int64_t micro_tokens = 0;  // most tokens of a pack, 0 = one pack a minibatch
  /// Weight of response token t of text i in a minibatch of B texts: "token_mean" 1 / tokens;
  /// "seq_mean_token_mean" 1 / (B |y_i|); "constant" 1 / (B max_new_tokens) (Dr. GRPO).
  /// "seq_mean_token_sum" 1 / B.
  std::string aggregation = "token_mean";
  int64_t max_new_tokens = 1;
  /// So many consecutive texts (a divisor of the rollout's) stand in one pack, in their order.
  int64_t together = 1;
  /// Each minibatch is cut into this many shards of nearly equal tokens; packs are made of those in
  /// [first_shard, end_shard) only, weights and cuts are of the whole.
  int64_t shards = 1, first_shard = 0, end_shard = 1;
};

/// Cuts `order` (indices of texts, with `together` of groups of texts) into minibatches of nearly
/// equal tokens and those into packs.
std::vector<Minibatch> make_minibatches(const Rollout& rollout, const std::vector<int64_t>& order,
                                        const MinibatchOptions& options);

}  // namespace hone::engine
