#pragma once

// options.h for the losses.

#include <optional>
#include <string_view>

#include "kernels/loss_inputs.h"
#include "kernels/math/direct.h"
#include "kernels/math/policy.h"
#include "kernels/math/preference.h"
#include "kernels/options.h"

namespace hone::kernels {

/// The numbers and strings of policy_loss as its schema has them (loss_ops.h, PolicyLossOptions).
struct PolicySettings {
  std::string_view kind;
  double clip_low, clip_high, dual_clip, kl_coef;
  std::string_view kl_estimator;
  double tau_positive, tau_negative;
  std::string_view behaviour;
  double behaviour_low, behaviour_high;
};

/// Which of the optional tensors a call has.
struct PolicyGiven {
  bool logp_ref, cu_seqlens, logp_behaviour;
};

/// `op` names the caller in messages: policy_loss or head_policy_loss. A tensor that the settings
/// need and that is not given is an error.
math::PolicyParams<double> policy_params(const char* op, const PolicySettings& settings,
                                         const PolicyGiven& given);

math::PreferenceParams<double> preference_params(const char* op, std::string_view model, double tie,
                                                 double lapse);

struct RankingParams {
  bool plackett_luce;  // else all pairs under `pair`
  math::PreferenceParams<double> pair;
};
RankingParams ranking_params(std::string_view model, double tie, double lapse);

math::DirectParams<double> direct_params(std::string_view kind, double beta, double label_smoothing,
                                         double margin, std::optional<double> nll_coef);

/// `kind` tells "cpo", which has no reference, from "dpo".
DirectNeeds direct_needs(std::string_view kind, const math::DirectParams<double>& params);

math::KtoParams<double> kto_params(double beta, double desirable_weight, double undesirable_weight);

// The same numbers in the type of the tensors.
template <typename T>
math::PolicyParams<T> cast(const math::PolicyParams<double>& p) {
  return {static_cast<T>(p.clip_low),
          static_cast<T>(p.clip_high),
          static_cast<T>(p.dual_clip),
          static_cast<T>(p.kl_coef),
          p.kl_estimator,
          p.surrogate,
          p.level,
          static_cast<T>(p.tau_positive),
          static_cast<T>(p.tau_negative),
          p.behaviour,
          p.behaviour_of_sequence,
          static_cast<T>(p.behaviour_low),
          static_cast<T>(p.behaviour_high)};
}

template <typename T>
math::PreferenceParams<T> cast(const math::PreferenceParams<double>& p) {
  return {p.model, static_cast<T>(p.tie), static_cast<T>(p.lapse)};
}

template <typename T>
math::DirectParams<T> cast(const math::DirectParams<double>& p) {
  return {p.kind, static_cast<T>(p.beta), static_cast<T>(p.label_smoothing),
          static_cast<T>(p.margin), static_cast<T>(p.nll_coef)};
}

template <typename T>
math::KtoParams<T> cast(const math::KtoParams<double>& p) {
  return {static_cast<T>(p.beta), static_cast<T>(p.desirable), static_cast<T>(p.undesirable)};
}

}  // namespace hone::kernels
