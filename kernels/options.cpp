#include "kernels/options.h"

#include <cmath>
#include <string>

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

math::GroupBaseline parse_group_baseline(const char* op, std::string_view name) {
  if (name == "grpo") return math::GroupBaseline::kGrpo;
  if (name == "dr_grpo") return math::GroupBaseline::kDrGrpo;
  HONE_CHECK(name == "rloo", op, "kind", "\"grpo\", \"dr_grpo\" or \"rloo\"", "\"",
             std::string(name), "\"");
  return math::GroupBaseline::kRloo;
}

math::AdvantageParams<double> advantage_params(double kl_coef, std::string_view kl_estimator,
                                               double kl_clamp, std::string_view placement,
                                               double gamma, double lambda) {
  constexpr const char* kOp = "advantages";
  HONE_CHECK(std::isfinite(kl_coef), kOp, "kl_coef", "a finite number", kl_coef);
  HONE_CHECK(kl_clamp > 0, kOp, "kl_clamp", "a positive number or infinity", kl_clamp);
  HONE_CHECK(gamma >= 0 && gamma <= 1, kOp, "gamma", "a number in [0, 1]", gamma);
  HONE_CHECK(lambda >= 0 && lambda <= 1, kOp, "lambda", "a number in [0, 1]", lambda);
  HONE_CHECK(placement == "last" || placement == "after_last", kOp, "placement",
             "\"last\" or \"after_last\"", "\"", std::string(placement), "\"");
  return {kl_coef,
          kl_clamp,
          gamma,
          lambda,
          parse_kl_estimator(kOp, kl_estimator),
          placement == "after_last"};
}

}  // namespace hone::kernels
