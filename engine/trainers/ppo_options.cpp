#include "engine/trainers/ppo_options.h"

namespace hone::engine {
namespace {

struct Clip {
  double low, high;
};

/// As published: PPO; GSPO (Zheng et al. 2025, 5.1); CISPO leaves small ratios alone (MiniMax-M1,
/// 2025) and holds them at 5 (Khatri et al. 2025).
Clip published_clip(const std::string& policy_loss) {
  if (policy_loss == "gspo" || policy_loss == "gspo_token") return {3e-4, 4e-4};
  if (policy_loss == "cispo") return {1.0, 4.0};
  return {0.2, 0.2};
}

}  // namespace

kernels::PolicyLossOptions policy_loss_options(const PpoOptions& options, double kl_coef) {
  const Clip published = published_clip(options.policy_loss);
  kernels::PolicyLossOptions loss;
  loss.kind = options.policy_loss;
  loss.clip_low = options.clip > 0 ? options.clip : published.low;
  loss.clip_high = options.clip_high > 0 ? options.clip_high
                   : options.clip > 0    ? options.clip
                                         : published.high;
  loss.dual_clip = options.dual_clip;
  loss.tau_positive = options.tau_positive;
  loss.tau_negative = options.tau_negative;
  if (options.kl_in_loss()) {
    loss.kl_coef = kl_coef;
    loss.kl_estimator = options.kl_estimator;
  }
  if (options.sampler_weight != "none") {
    loss.behaviour = options.sampler_weight;
    loss.behaviour_low = options.sampler_weight_low;
    loss.behaviour_high = options.sampler_weight_high;
  }
  return loss;
}

bool needs_sequences(const kernels::PolicyLossOptions& loss) {
  return loss.kind == "gspo" || loss.kind == "gspo_token" || loss.kind == "rloo" ||
         loss.behaviour.rfind("sequence_", 0) == 0;
}

}  // namespace hone::engine
