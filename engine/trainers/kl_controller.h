#pragma once

// The weight of the reference KL in the reward.

#include <cstdint>
#include <string>

namespace hone::engine {

/// "fixed" keeps the coefficient. "adaptive" (Ziegler et al. 2019, section 2.2): after each
/// iteration beta *= 1 + clip(kl / target - 1, -0.2, 0.2) * episodes / horizon, kl being the mean
/// over texts of the sum over tokens, in nats.
class KlController {
 public:
  /// Throws data::InputError for an unknown kind or, when adaptive, a target or horizon <= 0.
  KlController(const std::string& kind, double coefficient, double target, double horizon);
  double coefficient() const { return coefficient_; }
  void set_coefficient(double coefficient) { coefficient_ = coefficient; }  // resume
  void update(double mean_kl, int64_t episodes);

 private:
  bool adaptive_;
  double coefficient_, target_, horizon_;
};

}  // namespace hone::engine
