#include "engine/report/findings.h"

#include <algorithm>
#include <cmath>

#include "engine/report/html.h"

namespace hone::engine::report {
namespace {

using Number = std::optional<double>;

// Thresholds. Healthy runs of the main job stay at KL 3, distinct bigrams .56, copied 6-grams .03,
// length -30 %; with beta 0 they reach KL 20-90, .09-.2, .1-.3 (measured over three seeds).
constexpr double kFewBigrams = 0.5, kVeryFewBigrams = 0.35;
constexpr double kManyCopies = 0.05, kVeryManyCopies = 0.2;
constexpr double kLargeKl = 10.0, kVeryLargeKl = 20.0;
constexpr double kLengthChange = 0.4;
constexpr double kRareEos = 0.5;
constexpr double kPoorCalibration = 0.05;
constexpr double kNearChance = 0.55;
constexpr double kFewJudgements = 50;  // at 50 an accuracy is known to 7 points
constexpr double kManyCutTexts = 0.2, kManyCutAnswers = 0.4;  // the main job: .04, .2

std::string from_to(double before, double after) {
  return "from " + figure(before) + " to " + figure(after);
}

class Examiner {
 public:
  explicit Examiner(const Figures& summary) : summary_(summary) {}

  std::vector<Finding> examine() {
    diversity();
    distance();
    copying();
    length();
    judges();
    reward_model();
    limits();
    direct();
    std::stable_sort(out_.begin(), out_.end(),
                     [](const Finding& a, const Finding& b) { return a.severity > b.severity; });
    return std::move(out_);
  }

 private:
  Number number(const std::string& key) const { return summary_.number(key); }
  void add(Severity severity, const std::string& about, std::string title, std::string detail,
           bool collapse = false) {
    out_.push_back({severity, about, std::move(title), std::move(detail), collapse});
  }

  void diversity() {
    const Number before = number("diversity.before"), after = number("diversity.after");
    if (!after) return;
    const bool halved = before && *after <= 0.5 * *before;
    const bool always = before && *after >= *before;  // nothing that training did
    if (!halved && *after >= (always ? kVeryFewBigrams : kFewBigrams)) return;
    add(halved || *after < kVeryFewBigrams ? Severity::kBad : Severity::kWarn, "diversity",
        "The texts repeat each other",
        "Distinct bigrams " +
            (before ? "went " + from_to(*before, *after) : "are at " + figure(after)) +
            ". A policy that says the same thing to every prompt earns any score a judge pays "
            "for that thing.",
        true);
  }

  void distance() {
    const Number kl = number("policy.kl");
    if (!kl || *kl <= kLargeKl) return;
    add(*kl > kVeryLargeKl ? Severity::kBad : Severity::kWarn, "policy.kl",
        "Far from where it started",
        "KL to the reference is " + figure(kl) +
            " nats a text. The reward model learned from texts of the reference; out here it "
            "guesses.",
        true);
  }

  void copying() {
    const Number after = number("copied.after");
    if (!after || *after <= kManyCopies) return;
    add(*after > kVeryManyCopies ? Severity::kBad : Severity::kWarn, "copied", "Copied phrases",
        percent(*after) + " of the six-word sequences stand word for word in the training texts.",
        true);
  }

  void length() {
    const Number before = number("length.before"), after = number("length.after");
    if (before && after && *before > 0) {
      const double change = *after / *before - 1;
      if (std::abs(change) > kLengthChange) {
        add(Severity::kWarn, "length", change > 0 ? "Much longer texts" : "Much shorter texts",
            "Length went " + from_to(*before, *after) + " tokens (" +
                signed_figure(std::round(100 * change)) +
                " %). Judges often pay for length itself.");
      }
    }
    const Number eos = number("eos.after");
    if (eos && *eos < kRareEos) {
      add(Severity::kWarn, "eos", "Texts that do not end",
          "Only " + percent(*eos) + " reach the end-of-text token; the rest are cut off.");
    }
  }

  void judges() {
    const Number before = number("judge.before"), after = number("judge.after");
    const Number proxy_before = number("proxy.before"), proxy_after = number("proxy.after");
    const Number other_before = number("other.before"), other_after = number("other.after");
    const bool proxy_rose = proxy_before && proxy_after && *proxy_after > *proxy_before;
    if (before && after) {
      const Number errors = combined_errors(summary_, "judge");
      if (number("evaluate.prompts").value_or(2) < 2) {
        add(Severity::kWarn, "judge", "Within the noise",
            "The judge saw the answers to one prompt, which tell nothing about others.");
      } else if (*after < *before && proxy_rose && errors.value_or(-2) <= -2) {
        add(Severity::kBad, "judge", "The reward model was gamed",
            "Its score rose while the independent judge's fell " + from_to(*before, *after) + ".");
      } else if (errors && std::abs(*errors) < 2) {
        add(Severity::kWarn, "judge", "Within the noise",
            "The judge's change is " + figure(std::abs(*errors)) +
                " combined standard errors; below 2 it may be chance.");
      }
    }
    if (other_before && other_after && proxy_rose && *other_after < *other_before) {
      add(Severity::kBad, "other", "Other people's taste disagrees",
          "A scorer trained on other raters fell " + from_to(*other_before, *other_after) +
              " while the reward model's score rose.");
    }
    if (const Number people = number("judge.people"); people && after && *after > *people) {
      add(Severity::kWarn, "judge", "More positive than people's own texts, be suspicious",
          "The judge gives the policy " + figure(after) + " and people's own demonstrations " +
              figure(people) + ". Above that line a higher score is not better writing.");
    }
    if (!after && proxy_after) {
      add(Severity::kWarn, "proxy", "No independent judge",
          "Only the score that training optimised is known; it rises in a collapse too.");
    }
  }

  void reward_model() {
    const Number accuracy = number("reward.pair_accuracy"), words = number("reward.bow_accuracy");
    if (const Number count = number("reward.held_out_judgements");
        count && *count < kFewJudgements) {
      return hardly_measured(*count, accuracy);
    }
    if (accuracy && words && *accuracy < *words) {
      add(Severity::kWarn, "reward.pair_accuracy", "Reward model below a bag of words",
          "It orders " + percent(*accuracy) +
              " of unseen pairs as people did; counting words does " + percent(*words) + ".");
    }
    if (accuracy && *accuracy < kNearChance) {
      add(Severity::kWarn, "reward.pair_accuracy", "Reward model near chance",
          percent(*accuracy) + " of unseen pairs; a coin gets 50 %.");
    }
    if (const Number ece = number("reward.ece"); ece && *ece > kPoorCalibration) {
      add(Severity::kWarn, "reward.ece", "Poorly calibrated reward model",
          "Its stated confidence is off by " + percent(*ece) + " on average (ECE).");
    }
  }

  void hardly_measured(double judgements, Number accuracy) {
    if (judgements == 0 || !accuracy) {
      return add(Severity::kWarn, "reward.pair_accuracy", "Reward model not measured",
                 "No unseen judgement says which of two texts is better.");
    }
    const double error = std::sqrt(std::max(*accuracy * (1 - *accuracy), 0.25 / judgements) /
                                   judgements);  // all right or all wrong is not certain
    add(Severity::kWarn, "reward.pair_accuracy", "Reward model hardly measured",
        "Only " + counted(judgements, "unseen judgement") + ": its accuracy, " +
            percent(*accuracy) + ", is known to ± " + percent(error) +
            ", and its calibration not at all.");
  }

  void limits() {
    const auto cut = [&](const std::string& plural, const std::string& singular, double allowed,
                         const char* title, const std::string& option, const char* result) {
      const Number share = number("data.cut_" + plural);
      const Number limit = number("data." + singular + "_limit");
      const Number most = number("data." + singular + "_tokens");
      if (!share || !limit || !most || *share <= allowed) return;
      add(Severity::kWarn, "data.cut_" + plural, title,
          percent(*share) + " of people's " + plural + " are longer than the " + figure(*limit) +
              " tokens of " + option + ": " + result + " With this tokenizer " + figure(*most) +
              " tokens hold 99 % of them.");
    };
    cut("texts", "text", kManyCutTexts, "Texts are cut",
        "data.max_tokens (or the model's positions)",
        "nothing learns from the rest, nor how a text ends.");
    cut("answers", "answer", kManyCutAnswers, "Answers are cut", "max_new_tokens (under [train])",
        "a policy that is paid for ending learns to break off early.");
  }

  // Known of DPO: the margin grows while both answers become unlikely (Pal et al. 2024).
  void direct() {
    const Number accuracy = number("direct.pair_accuracy");
    const Number error = number("direct.pair_accuracy_stderr");
    if (accuracy && error && *accuracy - 2 * *error < 0.5) {
      add(Severity::kWarn, "direct.pair_accuracy",
          "The policy learned little of what people prefer",
          "Its implicit reward orders " + percent(*accuracy) +
              " of unseen pairs as people did; a coin gets 50 %.");
    }
    const Number before = number("direct.chosen_logprob.before");
    const Number after = number("direct.chosen_logprob.after");
    const Number rejected_before = number("direct.rejected_logprob.before");
    const Number rejected_after = number("direct.rejected_logprob.after");
    if (!before || !after || !rejected_before || !rejected_after) return;
    if (*after < *before && *rejected_after < *rejected_before) {
      add(*before - *after > 10 ? Severity::kWarn : Severity::kNote, "direct.chosen_logprob",
          "Chosen answers became less likely too",
          "The log-probability of unseen chosen answers went " + from_to(*before, *after) +
              " nats, of rejected ones " + from_to(*rejected_before, *rejected_after) +
              ": what was taken from both went to texts that nobody compared.");
    }
  }

  const Figures& summary_;
  std::vector<Finding> out_;
};

}  // namespace

std::vector<Finding> examine(const Figures& summary) { return Examiner(summary).examine(); }

std::optional<double> combined_errors(const Figures& summary, const std::string& score) {
  const Number before = summary.number(score + ".before"), after = summary.number(score + ".after");
  const Number error_before = summary.number(score + ".stderr_before");
  const Number error_after = summary.number(score + ".stderr_after");
  if (!before || !after || !error_before || !error_after) return std::nullopt;
  const double combined = std::hypot(*error_before, *error_after);
  if (!(combined > 0)) return std::nullopt;
  return (*after - *before) / combined;
}

}  // namespace hone::engine::report
