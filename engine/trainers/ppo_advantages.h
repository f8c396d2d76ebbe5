#pragma once

// From scores and log-probabilities to what each token is trained with.

#include "engine/rollout/rollout.h"
#include "engine/trainers/ppo_trainer.h"

namespace hone::engine {

struct AdvantageSummary {
  double reward = 0;  // mean over texts of score - kl_coef * KL
  double kl = 0;      // mean over texts of the sum over tokens of old - reference, nats
  double advantage_mean = 0, advantage_std = 0;  // before whitening
  double explained_variance = 0;  // 1 - Var(return - value) / Var(return); 0 without a critic
};

/// Fills advantages and returns of a scored rollout. "ppo", "reinforce_pp" and its baseline form:
/// one kernels::advantages pass over all response tokens (KL penalty, placement, GAE or the rewards
/// to come), whitened over the rollout. "rloo", "grpo", "dr_grpo": group advantages of the texts'
/// rewards. "online_dpo": which text of a pair is the better one, as a sign. A KL in the reward is
/// part of them; one in the loss is not.
AdvantageSummary estimate_advantages(Rollout& rollout, const PpoOptions& options, double kl_coef);

}  // namespace hone::engine
