#include "kernels/loss_options.h"

#include <c10/util/StringUtil.h>

#include <cmath>
#include <string>

#include "kernels/checks.h"

namespace hone::kernels {
namespace {

std::string quoted(std::string_view name) { return c10::str('"', name, '"'); }

struct PolicyKind {
  math::Surrogate surrogate;
  math::RatioLevel level;
};

PolicyKind parse_policy_kind(const char* op, std::string_view name) {
  using math::RatioLevel;
  using math::Surrogate;
  if (name == "ppo") return {Surrogate::kClip, RatioLevel::kToken};
  if (name == "gspo") return {Surrogate::kClip, RatioLevel::kSequenceMean};
  if (name == "gspo_token") return {Surrogate::kClip, RatioLevel::kSequenceToken};
  if (name == "rloo") return {Surrogate::kClip, RatioLevel::kSequenceSum};
  if (name == "cispo") return {Surrogate::kCispo, RatioLevel::kToken};
  if (name == "sapo") return {Surrogate::kSapo, RatioLevel::kToken};
  HONE_CHECK(name == "reinforce", op, "kind",
             "\"ppo\", \"gspo\", \"gspo_token\", \"rloo\", \"cispo\", \"sapo\" or \"reinforce\"",
             quoted(name));
  return {Surrogate::kReinforce, RatioLevel::kToken};
}

struct BehaviourKind {
  math::Behaviour behaviour;
  bool of_sequence;
};

BehaviourKind parse_behaviour(const char* op, std::string_view name) {
  using math::Behaviour;
  if (name == "token_truncate") return {Behaviour::kTruncate, false};
  if (name == "token_mask") return {Behaviour::kMask, false};
  if (name == "sequence_truncate") return {Behaviour::kTruncate, true};
  HONE_CHECK(name == "sequence_mask", op, "behaviour",
             "\"token_truncate\", \"token_mask\", \"sequence_truncate\" or \"sequence_mask\"",
             quoted(name));
  return {Behaviour::kMask, true};
}

}  // namespace

math::PolicyParams<double> policy_params(const char* op, const PolicySettings& s,
                                         const PolicyGiven& given) {
  const PolicyKind kind = parse_policy_kind(op, s.kind);
  const bool clips =
      kind.surrogate == math::Surrogate::kClip || kind.surrogate == math::Surrogate::kCispo;
  HONE_CHECK(s.clip_low >= 0 && s.clip_low <= 1, op, "clip_low", "a number in [0, 1]", s.clip_low);
  HONE_CHECK(s.clip_high >= 0, op, "clip_high", "a number >= 0", s.clip_high);
  HONE_CHECK(s.dual_clip == 0 || s.dual_clip > 1, op, "dual_clip", "a number > 1, or 0 for none",
             s.dual_clip);
  HONE_CHECK(s.dual_clip == 0 || (clips && kind.surrogate != math::Surrogate::kCispo), op,
             "dual_clip", c10::str("0 with kind ", quoted(s.kind)), s.dual_clip);
  HONE_CHECK(std::isfinite(s.kl_coef), op, "kl_coef", "a finite number", s.kl_coef);
  HONE_CHECK(s.kl_coef == 0 || given.logp_ref, op, "logp_ref",
             "the reference log-probabilities that kl_coef needs", "none");
  HONE_CHECK(s.tau_positive > 0 && std::isfinite(s.tau_positive), op, "tau_positive",
             "a finite number > 0", s.tau_positive);
  HONE_CHECK(s.tau_negative > 0 && std::isfinite(s.tau_negative), op, "tau_negative",
             "a finite number > 0", s.tau_negative);
  math::PolicyParams<double> p{s.clip_low, s.clip_high, s.dual_clip, s.kl_coef,
                               parse_kl_estimator(op, s.kl_estimator)};
  p.surrogate = kind.surrogate;
  p.level = kind.level;
  p.tau_positive = s.tau_positive;
  p.tau_negative = s.tau_negative;
  const BehaviourKind behaviour = parse_behaviour(op, s.behaviour);
  HONE_CHECK(s.behaviour_low >= 0, op, "behaviour_low", "a number >= 0", s.behaviour_low);
  HONE_CHECK(s.behaviour_high >= s.behaviour_low, op, "behaviour_high",
             c10::str("a number >= behaviour_low = ", s.behaviour_low), s.behaviour_high);
  p.behaviour_low = s.behaviour_low;
  p.behaviour_high = s.behaviour_high;
  if (given.logp_behaviour) {
    p.behaviour = behaviour.behaviour;
    p.behaviour_of_sequence = behaviour.of_sequence;
  }
  HONE_CHECK(given.cu_seqlens || p.level == math::RatioLevel::kToken, op, "cu_seqlens",
             c10::str("the sequences that kind ", quoted(s.kind), " needs"), "none");
  HONE_CHECK(given.cu_seqlens || !p.behaviour_of_sequence, op, "cu_seqlens",
             c10::str("the sequences that behaviour ", quoted(s.behaviour), " needs"), "none");
  return p;
}

math::PreferenceParams<double> preference_params(const char* op, std::string_view model, double tie,
                                                 double lapse) {
  HONE_CHECK(lapse >= 0 && lapse < 0.5, op, "lapse", "a number in [0, 0.5)", lapse);
  if (model == "bradley_terry") return {math::PreferenceModel::kBradleyTerry, tie, lapse};
  if (model == "davidson") {
    HONE_CHECK(tie >= 0 && std::isfinite(tie), op, "tie (nu of davidson)", "a number >= 0", tie);
    return {math::PreferenceModel::kDavidson, tie, lapse};
  }
  HONE_CHECK(model == "rao_kupper", op, "model",
             "\"bradley_terry\", \"davidson\" or \"rao_kupper\"", quoted(model));
  HONE_CHECK(tie >= 1 && std::isfinite(tie), op, "tie (theta of rao_kupper)", "a number >= 1", tie);
  return {math::PreferenceModel::kRaoKupper, tie, lapse};
}

RankingParams ranking_params(std::string_view model, double tie, double lapse) {
  constexpr const char* kOp = "ranking_loss";
  if (model != "plackett_luce") {
    HONE_CHECK(model == "bradley_terry" || model == "davidson" || model == "rao_kupper", kOp,
               "model", "\"plackett_luce\", \"bradley_terry\", \"davidson\" or \"rao_kupper\"",
               quoted(model));
    return {false, preference_params(kOp, model, tie, lapse)};
  }
  HONE_CHECK(lapse == 0, kOp, "lapse", "0 with model \"plackett_luce\"", lapse);
  return {true, {math::PreferenceModel::kBradleyTerry, 0, 0}};
}

math::DirectParams<double> direct_params(std::string_view kind, double beta, double label_smoothing,
                                         double margin, std::optional<double> nll_coef) {
  constexpr const char* kOp = "direct_loss";
  using math::DirectKind;
  const auto parsed = [&] {
    if (kind == "dpo" || kind == "cpo") return DirectKind::kDpo;
    if (kind == "robust_dpo") return DirectKind::kRobust;
    if (kind == "ipo") return DirectKind::kIpo;
    if (kind == "ipo_mean") return DirectKind::kIpoMean;
    if (kind == "hinge") return DirectKind::kHinge;
    if (kind == "simpo") return DirectKind::kSimpo;
    HONE_CHECK(kind == "orpo", kOp, "kind",
               "\"dpo\", \"robust_dpo\", \"ipo\", \"ipo_mean\", \"hinge\", \"simpo\", \"orpo\" or "
               "\"cpo\"",
               quoted(kind));
    return DirectKind::kOrpo;
  }();
  HONE_CHECK(beta > 0 && std::isfinite(beta), kOp, "beta", "a finite number > 0", beta);
  HONE_CHECK(label_smoothing >= 0 && label_smoothing < 0.5, kOp, "label_smoothing",
             "a number in [0, 0.5)", label_smoothing);
  const bool is_logistic = parsed == DirectKind::kDpo || parsed == DirectKind::kSimpo;
  HONE_CHECK(label_smoothing == 0 || is_logistic || parsed == DirectKind::kRobust, kOp,
             "label_smoothing", c10::str("0 with kind ", quoted(kind)), label_smoothing);
  HONE_CHECK(std::isfinite(margin), kOp, "margin", "a finite number", margin);
  HONE_CHECK(margin == 0 || is_logistic, kOp, "margin", c10::str("0 with kind ", quoted(kind)),
             margin);
  const bool has_nll = kind == "orpo" || kind == "cpo";
  const double nll = nll_coef.value_or(has_nll ? 1.0 : 0.0);
  HONE_CHECK(nll >= 0 && std::isfinite(nll), kOp, "nll_coef", "a finite number >= 0", nll);
  return {parsed, beta, label_smoothing, margin, nll};
}

DirectNeeds direct_needs(std::string_view kind, const math::DirectParams<double>& params) {
  const bool means = math::uses_means<double>(params.kind);
  return {kind != "simpo" && kind != "orpo" && kind != "cpo", means || params.nll_coef != 0, means};
}

math::KtoParams<double> kto_params(double beta, double desirable_weight,
                                   double undesirable_weight) {
  constexpr const char* kOp = "kto_loss";
  HONE_CHECK(beta > 0 && std::isfinite(beta), kOp, "beta", "a finite number > 0", beta);
  HONE_CHECK(desirable_weight >= 0 && std::isfinite(desirable_weight), kOp, "desirable_weight",
             "a finite number >= 0", desirable_weight);
  HONE_CHECK(undesirable_weight >= 0 && std::isfinite(undesirable_weight), kOp,
             "undesirable_weight", "a finite number >= 0", undesirable_weight);
  return {beta, desirable_weight, undesirable_weight};
}

}  // namespace hone::kernels
