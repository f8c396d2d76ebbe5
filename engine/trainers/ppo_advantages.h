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

/// Fills advantages and returns of a scored rollout. "ppo": one kernels::advantages pass over all
/// response tokens (KL penalty, placement, GAE), whitened over the rollout. "rloo": the KL is part
/// of a text's reward. "grpo", "dr_grpo": group advantages of the scores; the KL is in the loss.
AdvantageSummary estimate_advantages(Rollout& rollout, const PpoOptions& options, double kl_coef);

}  // namespace hone::engine
