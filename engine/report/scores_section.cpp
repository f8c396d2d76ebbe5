#include <array>
#include <set>

#include "engine/report/html.h"
#include "engine/report/sections.h"

namespace hone::engine::report {
namespace {

struct Known {
  const char *key, *title, *note;
};

constexpr std::array kScores = {
    Known{"judge", "Independent judge", "never seen in training"},
    Known{"proxy", "Reward model (proxy)", "what training optimised"},
    Known{"other", "Bag of words, other raters", "people whose judgements training never saw"},
    Known{"diversity", "Distinct bigrams",
          "variety over all texts; low = one text for every prompt"},
    Known{"copied", "Copied 6-grams", "share found word for word in the training texts"},
    Known{"real_words", "Real words", "share of words that people wrote in the training texts"},
    Known{"length", "New tokens", "mean length of what was written"},
    Known{"eos", "Ended by itself", "share that reached the end-of-text token"},
};

std::string with_error(const Figures& summary, const std::string& key, const std::string& when) {
  std::string out = figure(summary.number(key + "." + when));
  if (const auto error = summary.number(key + ".stderr_" + when)) {
    out += " <small>± " + figure(error) + "</small>";
  }
  return out;
}

std::string row(const Figures& summary, const Verdict& verdict, const std::string& key,
                const std::string& title, const std::string& note) {
  const auto before = summary.number(key + ".before"), after = summary.number(key + ".after");
  if (!before && !after) return "";
  return "<tr class=\"" + std::string(css_class(verdict.about(key))) + "\"><th scope=\"row\">" +
         escape(title) + "<small>" + escape(note) + "</small></th><td>" +
         with_error(summary, key, "before") + "</td><td><b>" + with_error(summary, key, "after") +
         "</b></td><td>" + (before && after ? signed_figure(*after - *before) : "–") + "</td><td>" +
         figure(summary.number(key + ".base")) + "</td><td>" +
         figure(summary.number(key + ".people")) + "</td></tr>\n";
}

}  // namespace

std::string scores_section(const RunFiles& run, const Verdict& verdict) {
  std::string rows;
  std::set<std::string> known;
  for (const Known& score : kScores) {
    rows += row(run.summary, verdict, score.key, score.title, score.note);
    known.insert(score.key);
  }
  // Whatever else was measured before and after.
  for (const auto& [key, text, number] : run.summary.entries()) {
    if (!key.ends_with(".before")) continue;
    const std::string name = key.substr(0, key.size() - std::string_view(".before").size());
    if (!known.contains(name)) rows += row(run.summary, verdict, name, name, "");
  }
  if (rows.empty()) return "";
  return "<section id=\"scores\"><h2>Every score, beside what it may have cost</h2>"
         "<div class=\"scroll\"><table><thead><tr><th></th><th>before</th><th>after</th>"
         "<th>change</th><th>base model</th><th>people's own</th></tr></thead><tbody>" +
         rows + "</tbody></table></div></section>\n";
}

}  // namespace hone::engine::report
