#include "kernels/loss_options.h"

#include <cmath>
#include <string>

#include "kernels/checks.h"

namespace hone::kernels {

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
