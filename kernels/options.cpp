#include "kernels/options.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "kernels/checks.h"

namespace hone::kernels {

math::KlEstimator parse_kl_estimator(const char* op, std::string_view name) {
  if (name == "k1") return math::KlEstimator::kK1;
  if (name == "k2") return math::KlEstimator::kK2;
  if (name == "k3") return math::KlEstimator::kK3;
  HONE_CHECK(name == "abs", op, "kl_estimator", "\"k1\", \"k2\", \"k3\" or \"abs\"", "\"",
             std::string(name), "\"");
  return math::KlEstimator::kAbs;
}

math::GroupParams group_params(std::string_view kind, double eps, bool unbiased,
                               std::string_view singletons) {
  constexpr const char* kOp = "group_advantages";
  static constexpr std::pair<std::string_view, math::GroupKind> kKinds[] = {
      {"grpo", math::GroupKind::kGrpo},
      {"dr_grpo", math::GroupKind::kDrGrpo},
      {"rloo", math::GroupKind::kRloo},
      {"grpo_loo", math::GroupKind::kGrpoLoo},
      {"reinforce_pp", math::GroupKind::kReinforcePp},
      {"reinforce_pp_baseline", math::GroupKind::kReinforcePpBaseline}};
  const auto* found = std::find_if(std::begin(kKinds), std::end(kKinds),
                                   [&](const auto& entry) { return entry.first == kind; });
  HONE_CHECK(found != std::end(kKinds), kOp, "kind",
             "\"grpo\", \"dr_grpo\", \"rloo\", \"grpo_loo\", \"reinforce_pp\" or "
             "\"reinforce_pp_baseline\"",
             "\"", std::string(kind), "\"");
  HONE_CHECK(eps >= 0 && std::isfinite(eps), kOp, "eps", "a number >= 0", eps);
  HONE_CHECK(singletons == "zero" || singletons == "raw", kOp, "singletons", "\"zero\" or \"raw\"",
             "\"", std::string(singletons), "\"");
  return {found->second, eps, unbiased, singletons == "raw"};
}

AdvantageSettings advantage_settings(double kl_coef, std::string_view kl_estimator, double kl_clamp,
                                     std::string_view placement, std::string_view estimator,
                                     double gamma, double lambda, double rho_clip, double c_clip) {
  constexpr const char* kOp = "advantages";
  HONE_CHECK(std::isfinite(kl_coef), kOp, "kl_coef", "a finite number", kl_coef);
  HONE_CHECK(kl_clamp > 0, kOp, "kl_clamp", "a positive number or infinity", kl_clamp);
  HONE_CHECK(gamma >= 0 && gamma <= 1, kOp, "gamma", "a number in [0, 1]", gamma);
  HONE_CHECK(lambda >= 0 && lambda <= 1, kOp, "lambda", "a number in [0, 1]", lambda);
  HONE_CHECK(rho_clip > 0, kOp, "rho_clip", "a positive number or infinity", rho_clip);
  HONE_CHECK(c_clip > 0, kOp, "c_clip", "a positive number or infinity", c_clip);
  HONE_CHECK(placement == "last" || placement == "after_last" || placement == "per_token", kOp,
             "placement", "\"last\", \"after_last\" or \"per_token\"", "\"", std::string(placement),
             "\"");
  const bool vtrace = estimator == "vtrace", whole = estimator == "return";
  HONE_CHECK(vtrace || whole || estimator == "gae" || estimator == "td_lambda", kOp, "estimator",
             "\"gae\", \"td_lambda\", \"return\" or \"vtrace\"", "\"", std::string(estimator),
             "\"");
  return {{kl_coef, kl_clamp, gamma, whole ? 1.0 : lambda, parse_kl_estimator(kOp, kl_estimator),
           placement == "after_last", rho_clip, c_clip},
          vtrace,
          placement == "per_token"};
}

}  // namespace hone::kernels
