#pragma once

// The posterior of a trained reward model's head (reward/posterior.h), from the pairs that trained
// it.

#include <cstdint>
#include <vector>

#include "engine/models/causal_lm.h"
#include "engine/packing/packed_batch.h"
#include "engine/trainers/reward_trainer.h"
#include "reward/posterior.h"
#include "reward/preference_data.h"

namespace hone::engine {

/// What the scalar head reads of each sequence, [N, H] double on the CPU; no gradient. Throws
/// Interrupted after a signal.
at::Tensor sequence_features(CausalLM& model, const std::vector<TokenIds>& sequences,
                             int64_t batch_tokens = 16384);

/// The likelihood that a model was trained with.
reward::PairLikelihood pair_likelihood(const RewardTrainingOptions& options);

/// At the trained head: z = score difference / temperature, which held-out votes have calibrated,
/// and the prior that the head was drawn from, N(0, I / (H + 1)). Explicit comparisons count all;
/// of ratings some 2,000 texts, scaled up: their pairs are many times more than the curvature of H
/// weights needs. `tokens` and `options` are those of train_reward.
reward::Posterior reward_posterior(CausalLM& model, const reward::PreferenceData& data,
                                   const std::vector<TokenIds>& tokens,
                                   const RewardTrainingOptions& options, double temperature,
                                   uint64_t seed);

}  // namespace hone::engine
