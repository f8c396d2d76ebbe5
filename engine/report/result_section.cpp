#include <cmath>

#include "engine/report/charts.h"
#include "engine/report/html.h"
#include "engine/report/sections.h"

namespace hone::engine::report {
namespace {

std::string card(const std::string& title, const std::string& value, const std::string& detail,
                 Severity severity = Severity::kNote) {
  return "<div class=\"card " + std::string(css_class(severity)) + "\"><h3>" + escape(title) +
         "</h3><p class=\"big\">" + value + "</p><p class=\"note\">" + escape(detail) +
         "</p></div>\n";
}

// "0.317 → 0.604" as HTML
std::string change_value(std::optional<double> before, double after) {
  const std::string to = "<b>" + figure(after) + "</b>";
  return before ? "<span>" + figure(before) + "</span> → " + to : to;
}

std::string judge_card(const Figures& summary, Severity about) {
  const auto after = summary.number("judge.after");
  if (!after) return "";
  const auto before = summary.number("judge.before");
  std::string detail;
  const auto error_before = summary.number("judge.stderr_before");
  const auto error_after = summary.number("judge.stderr_after");
  if (error_before && error_after) {
    detail = "± " + figure(error_before) + " and ± " + figure(error_after) + " (standard errors)";
  }
  if (const auto errors = combined_errors(summary, "judge")) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f", std::abs(*errors));
    detail += "; " + signed_figure(*after - *before) + " is " + text + " combined standard errors";
  }
  const auto gain = summary.number("judge.gain"), gain_error = summary.number("judge.stderr_gain");
  if (gain && gain_error) {
    detail += "; prompt by prompt " + signed_figure(*gain) + " ± " + figure(gain_error);
  }
  return card("Independent judge", change_value(before, *after), detail, about);
}

std::string cards(const Figures& summary, const Verdict& verdict) {
  std::string out = judge_card(summary, verdict.about("judge"));
  if (const auto after = summary.number("proxy.after")) {
    out += card("Reward model (the proxy)", change_value(summary.number("proxy.before"), *after),
                summary.number("direct.pairs")
                    ? "of the same judgements; training did not read it"
                    : "what training optimised; it rises in a collapse too");
  }
  if (const auto kl = summary.number("policy.kl")) {
    out += card("KL", "<b>" + figure(kl) + "</b> <small>nats a text</small>",
                "how far the policy moved from the reference", verdict.about("policy.kl"));
  }
  if (const auto after = summary.number("diversity.after")) {
    out +=
        card("Distinct bigrams", change_value(summary.number("diversity.before"), *after),
             "1 = no word pair used twice; a collapse goes below 0.35", verdict.about("diversity"));
  }
  if (const auto accuracy = summary.number("direct.pair_accuracy")) {
    const auto error = summary.number("direct.pair_accuracy_stderr");
    const auto training = summary.number("direct.pair_accuracy_training");
    out += card("Implicit reward", "<b>" + percent(*accuracy) + "</b>",
                "of unseen judgements right" + (error ? " (± " + percent(*error) + ")" : "") +
                    (training ? ", " + percent(*training) + " of training ones" : ""),
                verdict.about("direct.pair_accuracy"));
  }
  if (const auto accuracy = summary.number("reward.pair_accuracy")) {
    std::string detail = "of unseen people's pairs of unseen texts";
    if (const auto ceiling = summary.number("reward.human_ceiling")) {
      detail += "; a person among people: " + percent(*ceiling);
    }
    out += card("Reward model orders", "<b>" + percent(*accuracy) + "</b>", detail,
                verdict.about("reward.pair_accuracy"));
  }
  if (const auto seconds = summary.number("seconds.total")) {
    out += card("Time", "<b>" + duration_text(*seconds) + "</b>", "all stages together");
  }
  return out.empty() ? "" : "<div class=\"cards\">" + out + "</div>\n";
}

constexpr const char* kGuide =
    "<div class=\"card guide\"><h3>How to read this page</h3><dl>"
    "<dt>Before, after</dt><dd>the model fine-tuned on demonstrations, and the policy that "
    "people's "
    "judgements made of it. Both answer the same held-out prompts.</dd>"
    "<dt>Proxy</dt><dd>the reward model, learned from people's comparisons. Training raises it, so "
    "it proves nothing by itself.</dd>"
    "<dt>Judge</dt><dd>a scorer that training never saw. It proves something as long as the texts "
    "stay varied, of normal length and their own.</dd>"
    "<dt>KL</dt><dd>how surprised the reference model is by the policy's texts, in nats. The "
    "farther, the less the reward model knows.</dd></dl></div>";

std::string judge_plot(const Figures& summary) {
  std::vector<Mark> marks;
  const auto add = [&](const std::string& name, const char* key, const char* error,
                       const std::string& color) {
    const auto value = summary.number(key);
    if (value) marks.push_back({name, color, *value, summary.number(error).value_or(0)});
  };
  add("base model", "judge.base", "judge.stderr_base", "muted");
  add("fine-tuned (before)", "judge.before", "judge.stderr_before", "before");
  add("policy (after)", "judge.after", "judge.stderr_after", "after");
  add("people's own", "judge.people", "judge.stderr_people", "people");
  if (marks.size() < 2) return "";
  const std::string judge = summary.text("judge.name");
  std::string note = "Whiskers: one standard error. Training never saw this judge.";
  if (summary.number("judge.people")) {
    note += " \"People's own\" are the demonstrations: above them, more is not better.";
  }
  return interval_plot("Who scores what with the independent judge", judge, marks, note);
}

}  // namespace

std::string result_section(const RunFiles& run, const Verdict& verdict) {
  std::string out = "<section id=\"result\" class=\"verdict " +
                    std::string(css_class(verdict.severity)) + "\"><p class=\"badge\">" +
                    escape(verdict.badge) + "</p><h2>" + escape(verdict.sentence) + "</h2>\n";
  if (!verdict.findings.empty()) {
    out += "<ul class=\"findings\">";
    for (const Finding& finding : verdict.findings) {
      out += "<li class=\"" + std::string(css_class(finding.severity)) + "\"><b>" +
             escape(finding.title) + ".</b> " + escape(finding.detail) + "</li>\n";
    }
    out += "</ul>";
  }
  out += "</section>\n<section>" + cards(run.summary, verdict);
  const std::string plot = judge_plot(run.summary);
  if (!plot.empty()) out += "<div class=\"charts two\">" + plot + kGuide + "</div>";
  return out + "</section>\n";
}

}  // namespace hone::engine::report
