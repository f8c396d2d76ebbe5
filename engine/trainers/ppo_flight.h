#pragma once

// One iteration of PPO on its way: what was sampled, and what its optimizer steps have come to.

#include <algorithm>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>

#include "engine/checkpoint/saved_state.h"
#include "engine/checkpoint/training_state.h"
#include "engine/rollout/rollout.h"
#include "engine/trainers/ppo_advantages.h"
#include "engine/trainers/ppo_update.h"

namespace hone::engine {

/// Means over the optimizer steps of one iteration.
struct UpdateMeans {
  double policy_loss = 0, value_loss = 0, clip_fraction = 0, approx_kl = 0, ratio_max = 0;
  double kl_loss = 0, held = 0, margin = 0;
  double actor_norm = 0, critic_norm = 0;
  int64_t steps = 0;
  PolicyUpdate first;  // of the first minibatch

  void add(const PolicyUpdate& policy, double value, double actor, double critic) {
    if (steps++ == 0) first = policy;
    const double share = 1.0 / static_cast<double>(steps);
    const auto average = [&](double& mean, double x) { mean += (x - mean) * share; };
    average(policy_loss, policy.loss);
    average(value_loss, value);
    average(clip_fraction, policy.clip_fraction);
    average(approx_kl, policy.approx_kl);
    average(kl_loss, policy.kl);
    average(held, policy.held);
    average(margin, policy.margin);
    average(actor_norm, actor);
    average(critic_norm, critic);
    ratio_max = std::max(ratio_max, policy.ratio_error);
  }
};

struct PpoFlight {
  Rollout rollout;  // scored, with advantages
  AdvantageSummary summary;
  UpdateMeans means;
  double kl_coef = 0, lr = 0;                   // of the whole iteration; of its first step
  double sampling_rounds = 1, flat_groups = 0;  // DifferingGroups
  double seconds_rollout = 0, seconds_scoring = 0, seconds_update = 0;
};

void add_flight(TrainingState& state, const PpoFlight& flight);
PpoFlight saved_flight(const SavedState& saved, at::Device device);

nlohmann::json to_json(const PpoResult& result);
PpoResult ppo_result_from_json(const nlohmann::json& object);

}  // namespace hone::engine
