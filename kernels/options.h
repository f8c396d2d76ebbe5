#pragma once

// From the strings and numbers of an op's schema to the parameter structs of kernels/math, with
// every value checked. The CPU and CUDA halves of an op share these.

#include <string_view>

#include "kernels/math/advantages.h"
#include "kernels/math/group.h"

namespace hone::kernels {

math::KlEstimator parse_kl_estimator(const char* op, std::string_view name);

math::GroupParams group_params(std::string_view kind, double eps, bool unbiased,
                               std::string_view singletons);

/// What the schema of `advantages` says in strings and numbers.
struct AdvantageSettings {
  math::AdvantageParams<double> params;
  bool vtrace;     // the rule of kernels/math/vtrace.h, not gae.h
  bool per_token;  // placement: token_rewards only, no scores
};
AdvantageSettings advantage_settings(double kl_coef, std::string_view kl_estimator, double kl_clamp,
                                     std::string_view placement, std::string_view estimator,
                                     double gamma, double lambda, double rho_clip, double c_clip);

// The same numbers in the type of the tensors.
template <typename T>
math::AdvantageParams<T> cast(const math::AdvantageParams<double>& p) {
  return {static_cast<T>(p.kl_coef),
          static_cast<T>(p.kl_clamp),
          static_cast<T>(p.gamma),
          static_cast<T>(p.lambda),
          p.kl_estimator,
          p.after_last,
          static_cast<T>(p.rho_clip),
          static_cast<T>(p.c_clip)};
}

}  // namespace hone::kernels
