#include <algorithm>
#include <cmath>
#include <cstdio>
#include <tuple>

#include "engine/report/findings.h"
#include "engine/report/html.h"

namespace hone::engine::report {
namespace {

using Number = std::optional<double>;

constexpr double kClearErrors = 2;  // combined standard errors; fewer may be chance

std::string with_error(double value, Number error) {
  return figure(value) + (error ? "\u00A0±\u00A0" + figure(error) : "");
}

// " on 400 held-out prompts, at a KL of 2.9 nats a text"
std::string circumstances(const RunFiles& run) {
  std::string out;
  const double prompts =
      run.summary.number("evaluate.prompts").value_or(static_cast<double>(run.samples.size()));
  if (prompts > 0) out += " on " + counted(prompts, "held-out prompt");
  if (const Number kl = run.summary.number("policy.kl")) {
    out += ", at a KL of " + figure(kl) + " nats a text";
  }
  return out;
}

/// How clear a score's change is, in combined standard errors. What one prompt shows is not; what
/// does not vary at all is.
double clearness(const Figures& summary, const std::string& score) {
  if (const Number errors = combined_errors(summary, score)) return *errors;
  const double change = *summary.number(score + ".after") - *summary.number(score + ".before");
  if (change == 0 || summary.number("evaluate.prompts").value_or(2) < 2) return 0;
  return change > 0 ? kClearErrors : -kClearErrors;
}

std::string score_sentence(const RunFiles& run, const std::string& score,
                           const std::string& owner) {
  const Figures& summary = run.summary;
  const double before = *summary.number(score + ".before");
  const double after = *summary.number(score + ".after");
  const Number errors = combined_errors(summary, score);
  const bool clear = std::abs(clearness(summary, score)) >= kClearErrors;
  const std::string from = with_error(before, summary.number(score + ".stderr_before"));
  const std::string to = with_error(after, summary.number(score + ".stderr_after"));
  std::string out = "Training on people's judgements ";
  out += clear ? (after > before ? "raised " : "lowered ") + owner + " from " + from + " to " + to
               : "did not clearly change " + owner + ": " + from + " before, " + to + " after";
  if (errors) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f", std::abs(*errors));
    out += " (" + std::string(text) + " combined standard errors)";
  }
  return out + circumstances(run) + ".";
}

bool has_both(const Figures& summary, const std::string& score) {
  return summary.number(score + ".before") && summary.number(score + ".after");
}

std::string sentence(const RunFiles& run) {
  const Figures& summary = run.summary;
  if (has_both(summary, "judge"))
    return score_sentence(run, "judge", "the independent judge's score");
  if (has_both(summary, "proxy")) {
    return score_sentence(run, "proxy", "the reward model's own score");
  }
  if (const Number accuracy = summary.number("reward.pair_accuracy")) {
    return "The reward model orders " + percent(*accuracy) +
           " of unseen pairs as people did. No policy was trained with it in this run yet.";
  }
  for (const auto& [stage, name, words] :
       {std::tuple{"ppo", "ppo/score", "PPO stands at a reward of "},
        std::tuple{"reward", "reward/loss", "The reward model's loss stands at "},
        std::tuple{"sft", "sft/loss", "Fine-tuning stands at a loss of "},
        std::tuple{"pretrain", "pretrain/loss", "Pretraining stands at a loss of "}}) {
    const Series* series = run.series(stage, name);
    if (!series || series->value.empty()) continue;
    return words + figure(series->value.back()) + " after " + figure(series->step.back()) +
           " steps. The run has no evaluation yet.";
  }
  return "This run has no figures yet.";
}

// A collapse in one sentence: the score must not stand there without what it cost.
std::string collapse_sentence(const RunFiles& run) {
  const Figures& summary = run.summary;
  std::string out = "Do not use this policy: its texts have collapsed";
  std::string how;
  const auto add = [&](const std::string& part) { how += (how.empty() ? "" : ", ") + part; };
  if (const Number after = summary.number("diversity.after")) {
    const Number before = summary.number("diversity.before");
    add("distinct bigrams " + (before ? figure(before) + " → " : "") + figure(after));
  }
  if (const Number kl = summary.number("policy.kl")) add("KL " + figure(kl) + " nats a text");
  if (const Number copied = summary.number("copied.after")) add(percent(*copied) + " copied");
  if (!how.empty()) out += " (" + how + ")";
  out += ".";
  if (!has_both(summary, "judge")) return out;
  const double before = *summary.number("judge.before"), after = *summary.number("judge.after");
  return out + " The independent judge's " +
         with_error(before, summary.number("judge.stderr_before")) + " → " +
         with_error(after, summary.number("judge.stderr_after")) +
         (after > before ? " is not an improvement." : " shows it too.");
}

}  // namespace

const char* css_class(Severity severity) {
  switch (severity) {
    case Severity::kGood:
      return "good";
    case Severity::kNote:
      return "quiet";
    case Severity::kWarn:
      return "warn";
    case Severity::kBad:
      return "bad";
  }
  return "quiet";
}

Severity Verdict::about(const std::string& figure) const {
  for (const Finding& finding : findings) {
    if (finding.about == figure) return finding.severity;
  }
  return Severity::kNote;
}

Verdict judge_run(const RunFiles& run) {
  Verdict out;
  out.sentence = sentence(run);
  out.findings = examine(run.summary);
  const Figures& summary = run.summary;
  const bool worst_is_bad =
      !out.findings.empty() && out.findings.front().severity == Severity::kBad;
  if (worst_is_bad) {
    const bool collapsed =
        std::any_of(out.findings.begin(), out.findings.end(),
                    [](const Finding& f) { return f.severity == Severity::kBad && f.collapse; });
    out.severity = Severity::kBad;
    out.badge = collapsed ? "Collapsed" : "Gamed";
    if (collapsed) out.sentence = collapse_sentence(run);
  } else if (has_both(summary, "judge")) {
    const double errors = clearness(summary, "judge");
    out.severity = errors >= kClearErrors ? Severity::kGood : Severity::kWarn;
    out.badge = errors >= kClearErrors    ? "Improved"
                : errors <= -kClearErrors ? "Worse"
                                          : "No clear change";
  } else {
    out.severity = has_both(summary, "proxy") ? Severity::kWarn : Severity::kNote;
    out.badge = has_both(summary, "proxy") ? "Not judged" : "Not finished";
  }
  return out;
}

}  // namespace hone::engine::report
