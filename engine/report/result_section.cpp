#include <cmath>

#include "engine/report/charts.h"
#include "engine/report/html.h"
#include "engine/report/sections.h"

namespace hone::engine::report {
namespace {

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

std::string card(const std::string& title, const std::string& value, const std::string& detail) {
  return "<div class=\"card\"><h3>" + escape(title) + "</h3><p class=\"big\">" + value +
         "</p><p class=\"note\">" + escape(detail) + "</p></div>\n";
}

// "0.317 → 0.604" as HTML
std::string change_value(std::optional<double> before, double after) {
  const std::string to = "<b>" + figure(after) + "</b>";
  return before ? "<span>" + figure(before) + "</span> → " + to : to;
}

std::string judge_card(const Figures& summary) {
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
  return card("Independent judge", change_value(before, *after), detail);
}

std::string cards(const Figures& summary) {
  std::string out = judge_card(summary);
  if (const auto after = summary.number("proxy.after")) {
    out += card("Reward model (the proxy)", change_value(summary.number("proxy.before"), *after),
                "what training optimised; it rises in a collapse too");
  }
  if (const auto kl = summary.number("policy.kl")) {
    out += card("KL", "<b>" + figure(kl) + "</b> <small>nats a text</small>",
                "how far the policy moved from the reference");
  }
  if (const auto after = summary.number("diversity.after")) {
    out += card("Distinct bigrams", change_value(summary.number("diversity.before"), *after),
                "1 = no word pair used twice; a collapse goes below 0.35");
  }
  if (const auto accuracy = summary.number("reward.pair_accuracy")) {
    std::string detail = "of unseen people's pairs of unseen texts";
    if (const auto ceiling = summary.number("reward.human_ceiling")) {
      detail += "; a person among people: " + percent(*ceiling);
    }
    out += card("Reward model orders", "<b>" + percent(*accuracy) + "</b>", detail);
  }
  if (const auto seconds = summary.number("seconds.total")) {
    out += card("Time", "<b>" + duration_text(*seconds) + "</b>", "all stages together");
  }
  return out.empty() ? "" : "<div class=\"cards\">" + out + "</div>\n";
}

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
  return interval_plot("Who scores what with the independent judge", judge, marks,
                       "Whiskers: one standard error. Training never saw this judge. \"People's "
                       "own\" are the demonstrations: above them, more is not better.");
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
  out += "</section>\n<section>" + cards(run.summary);
  const std::string plot = judge_plot(run.summary);
  if (!plot.empty()) out += "<div class=\"charts wide\">" + plot + "</div>";
  return out + "</section>\n";
}

}  // namespace hone::engine::report
