#include "engine/trainers/kl_controller.h"

#include <algorithm>

#include "data/error.h"

namespace hone::engine {

KlController::KlController(const std::string& kind, double coefficient, double target,
                           double horizon)
    : adaptive_(kind == "adaptive"), coefficient_(coefficient), target_(target), horizon_(horizon) {
  if (!adaptive_ && kind != "fixed") {
    throw data::InputError("ppo", "kl_controller", "fixed or adaptive", kind);
  }
  if (!(coefficient >= 0)) {
    throw data::InputError("ppo", "kl_coef", "a number >= 0", std::to_string(coefficient));
  }
  if (adaptive_ && !(target > 0)) {
    throw data::InputError("ppo", "kl_target", "a number > 0", std::to_string(target));
  }
  if (adaptive_ && !(horizon > 0)) {
    throw data::InputError("ppo", "kl_horizon", "a number > 0", std::to_string(horizon));
  }
}

void KlController::update(double mean_kl, int64_t episodes) {
  if (!adaptive_) return;
  const double error = std::clamp(mean_kl / target_ - 1.0, -0.2, 0.2);
  coefficient_ *= 1.0 + error * static_cast<double>(episodes) / horizon_;
}

}  // namespace hone::engine
