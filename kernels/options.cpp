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

math::PolicyParams<double> policy_params(const char* op, double clip_low, double clip_high,
                                         double dual_clip, double kl_coef,
                                         std::string_view kl_estimator, bool has_ref) {
  HONE_CHECK(clip_low >= 0 && clip_low <= 1, op, "clip_low", "a number in [0, 1]", clip_low);
  HONE_CHECK(clip_high >= 0, op, "clip_high", "a number >= 0", clip_high);
  HONE_CHECK(dual_clip == 0 || dual_clip > 1, op, "dual_clip", "a number > 1, or 0 for none",
             dual_clip);
  HONE_CHECK(std::isfinite(kl_coef), op, "kl_coef", "a finite number", kl_coef);
  HONE_CHECK(kl_coef == 0 || has_ref, op, "logp_ref",
             "the reference log-probabilities that kl_coef needs", "none");
  return {clip_low, clip_high, dual_clip, kl_coef, parse_kl_estimator(op, kl_estimator)};
}

math::PreferenceParams<double> preference_params(std::string_view model, double tie, double lapse) {
  constexpr const char* kOp = "preference_loss";
  HONE_CHECK(lapse >= 0 && lapse < 0.5, kOp, "lapse", "a number in [0, 0.5)", lapse);
  if (model == "bradley_terry") return {math::PreferenceModel::kBradleyTerry, tie, lapse};
  if (model == "davidson") {
    HONE_CHECK(tie >= 0 && std::isfinite(tie), kOp, "tie (nu of davidson)", "a number >= 0", tie);
    return {math::PreferenceModel::kDavidson, tie, lapse};
  }
  HONE_CHECK(model == "rao_kupper", kOp, "model",
             "\"bradley_terry\", \"davidson\" or \"rao_kupper\"", "\"", std::string(model), "\"");
  HONE_CHECK(tie >= 1 && std::isfinite(tie), kOp, "tie (theta of rao_kupper)", "a number >= 1",
             tie);
  return {math::PreferenceModel::kRaoKupper, tie, lapse};
}

}  // namespace hone::kernels
