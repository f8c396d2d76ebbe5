#pragma once

// From the strings and numbers of an op's schema to the parameter structs of kernels/math, with
// every value checked. The CPU and CUDA halves of an op share these.

#include <string_view>

#include "kernels/math/advantages.h"
#include "kernels/math/policy.h"
#include "kernels/math/preference.h"
#include "kernels/math/whitening.h"

namespace hone::kernels {

math::KlEstimator parse_kl_estimator(const char* op, std::string_view name);

math::GroupBaseline parse_group_baseline(const char* op, std::string_view name);

math::AdvantageParams<double> advantage_params(double kl_coef, std::string_view kl_estimator,
                                               double kl_clamp, std::string_view placement,
                                               double gamma, double lambda);

/// `op` names the caller in messages: policy_loss or head_policy_loss. `has_ref`: logp_ref is
/// given; it must be where kl_coef is not 0.
math::PolicyParams<double> policy_params(const char* op, double clip_low, double clip_high,
                                         double dual_clip, double kl_coef,
                                         std::string_view kl_estimator, bool has_ref);

math::PreferenceParams<double> preference_params(std::string_view model, double tie, double lapse);

// The same numbers in the type of the tensors.
template <typename T>
math::AdvantageParams<T> cast(const math::AdvantageParams<double>& p) {
  return {static_cast<T>(p.kl_coef),
          static_cast<T>(p.kl_clamp),
          static_cast<T>(p.gamma),
          static_cast<T>(p.lambda),
          p.kl_estimator,
          p.after_last};
}

template <typename T>
math::PolicyParams<T> cast(const math::PolicyParams<double>& p) {
  return {static_cast<T>(p.clip_low), static_cast<T>(p.clip_high), static_cast<T>(p.dual_clip),
          static_cast<T>(p.kl_coef), p.kl_estimator};
}

template <typename T>
math::PreferenceParams<T> cast(const math::PreferenceParams<double>& p) {
  return {p.model, static_cast<T>(p.tie), static_cast<T>(p.lapse)};
}

}  // namespace hone::kernels
