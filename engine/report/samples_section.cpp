#include <algorithm>

#include "engine/report/html.h"
#include "engine/report/sections.h"

namespace hone::engine::report {
namespace {

constexpr size_t kShown = 12, kMost = 500;

std::string scores(std::optional<double> judge, std::optional<double> proxy) {
  std::string out;
  if (judge) out += "<span>judge <b>" + figure(judge) + "</b></span>";
  if (proxy) out += "<span>proxy <b>" + figure(proxy) + "</b></span>";
  return out.empty() ? "" : "<p class=\"scores\">" + out + "</p>";
}

// The prompt stands apart from what the model wrote, whether or not the file repeats it there.
std::string text(const std::string& prompt, const std::string& whole) {
  const bool repeated = !prompt.empty() && whole.starts_with(prompt);
  return "<p class=\"text\" dir=\"auto\"><em>" + escape(prompt) + "</em>" +
         escape(repeated ? whole.substr(prompt.size()) : (prompt.empty() ? "" : " ") + whole) +
         "</p>";
}

std::string article(const Sample& sample) {
  return "<article><div><h4 class=\"before\">before</h4>" + text(sample.prompt, sample.before) +
         scores(sample.judge_before, sample.proxy_before) +
         "</div><div><h4 class=\"after\">after</h4>" + text(sample.prompt, sample.after) +
         scores(sample.judge_after, sample.proxy_after) + "</div></article>\n";
}

}  // namespace

std::string samples_section(const RunFiles& run) {
  const size_t count = run.samples.size();
  if (count == 0) return "";
  std::vector<bool> shown(count, false);
  const size_t first = std::min(kShown, count);
  for (size_t i = 0; i < first; ++i) shown[i * count / first] = true;
  std::string chosen, others;
  size_t left = 0;
  for (size_t i = 0; i < count; ++i) {
    if (shown[i]) {
      chosen += article(run.samples[i]);
    } else if (left + first < kMost) {
      others += article(run.samples[i]);
      ++left;
    }
  }
  std::string out = "<section id=\"samples\"><h2>Samples</h2><p class=\"lead\">" +
                    figure(static_cast<double>(first)) + " of " +
                    figure(static_cast<double>(count)) +
                    " held-out prompts, evenly spaced, not chosen. The prompt is in color.</p>"
                    "<div class=\"samples\">" +
                    chosen + "</div>\n";
  if (left > 0) {
    const bool cut = first + left < count;
    out += folded("Show " + figure(static_cast<double>(left)) + " more" +
                      (cut ? " (the rest is in evaluation/samples.jsonl)" : ""),
                  "<div class=\"samples\">" + others + "</div>");
  }
  return out + "</section>\n";
}

}  // namespace hone::engine::report
