#pragma once

// options.h for the losses.

#include <string_view>

#include "kernels/math/policy.h"
#include "kernels/math/preference.h"
#include "kernels/options.h"

namespace hone::kernels {

/// `op` names the caller in messages: policy_loss or head_policy_loss. `has_ref`: logp_ref is
/// given; it must be where kl_coef is not 0.
math::PolicyParams<double> policy_params(const char* op, double clip_low, double clip_high,
                                         double dual_clip, double kl_coef,
                                         std::string_view kl_estimator, bool has_ref);

math::PreferenceParams<double> preference_params(std::string_view model, double tie, double lapse);

// The same numbers in the type of the tensors.
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
