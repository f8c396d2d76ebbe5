#pragma once

// The passes of one PPO iteration over packs: scoring without gradients, then gradients of the
// policy and the value loss. Each reads a rollout and one network.

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "engine/models/causal_lm.h"
#include "engine/rollout/minibatches.h"
#include "engine/rollout/rollout.h"
#include "kernels/ops.h"

namespace hone::engine {

/// Writes log-probabilities of the pack's response tokens into `logprobs` [E], and their entropies
/// into `entropy` [E] when it is defined. `kept`: the forward pass, with its graph.
void score_policy(CausalLM& policy, const Pack& pack, double temperature, at::Tensor& logprobs,
                  at::Tensor& entropy, at::Tensor* kept = nullptr);

/// Writes the critic's values of the pack's states, `offset` added, into `values` [E].
void score_values(CausalLM& critic, double offset, const Pack& pack, at::Tensor& values,
                  at::Tensor* kept = nullptr);

struct PolicyObjective {
  double temperature = 1.0;
  kernels::PolicyLossOptions loss;
  /// DPO of pairs of texts with this beta, instead of `loss`; 0 = off.
  double pair_beta = 0.0;
  bool weighs_sampler = false;  // loss.behaviour is about the rollout's behaviour_logprobs
};

struct PolicyUpdate {
  double loss = 0, clip_fraction = 0, approx_kl = 0;
  double ratio_error = 0;  // largest |ratio - 1|
  double entropy = 0;      // mean over tokens
  double mismatch = 0;     // mean |log-probability - behaviour log-probability| over tokens
  double kl = 0;           // the reference KL that is part of the loss
  double margin = 0;       // pairs: implicit reward of the better text less that of the other
  double held = 0;         // share of tokens whose sampler's weight was held or masked
  int64_t tokens = 0;      // response tokens

  /// As numbers that travel to other ranks, after the others in `numbers`; and one update of all
  /// the shards in there.
  void append_to(std::vector<double>& numbers) const;
  static PolicyUpdate combined(const std::vector<double>& numbers);
};

/// Adds the gradient of a minibatch's policy loss to the actor's arena. The language-model head is
/// applied at response tokens only. A pack's kept forward pass is used (once), not made again.
/// `before_last` is called before the last backward pass.
PolicyUpdate accumulate_policy_gradients(CausalLM& actor, const Rollout& rollout,
                                         const Minibatch& minibatch,
                                         const PolicyObjective& objective,
                                         const std::function<void()>& before_last = {});

/// Adds the gradient of a minibatch's value loss to the critic's arena. Returns the loss.
double accumulate_value_gradients(CausalLM& critic, double offset, const Rollout& rollout,
                                  const Minibatch& minibatch, double clip,
                                  const std::function<void()>& before_last = {});

/// The packs of one logical shard.
Minibatch packs_of_shard(const Minibatch& minibatch, int64_t shard);

}  // namespace hone::engine
