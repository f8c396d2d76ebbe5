#include <algorithm>
#include <cmath>

#include "engine/report/charts.h"
#include "engine/report/html.h"
#include "engine/report/sections.h"
#include "engine/report/svg.h"

namespace hone::engine::report {
namespace {

constexpr double kLeft = 44, kRight = 344, kTop = 10, kBottom = 182, kHeight = 220;
constexpr size_t kMostDrawn = 400;  // of more, every n-th
constexpr size_t kMostRows = 8;

std::string interval_text(double low, double high) { return figure(low) + " to " + figure(high); }

/// Each rater's reliability with its interval, the most reliable left.
std::string picture(const std::vector<RaterFigures>& raters, std::optional<double> average) {
  const size_t stride = (raters.size() + kMostDrawn - 1) / kMostDrawn;
  Axis x = Axis::covering(1, std::max(2.0, static_cast<double>(raters.size())), 5);
  Axis y = Axis::exactly(0, 1, 0.25);
  x.draw_on(kLeft, kRight);
  y.draw_on(kBottom, kTop);
  std::string out = svg_grid(x, y, kLeft, kRight, kTop, kBottom);
  if (average) {
    out += svg_line(kLeft, y.pixel(*average), kRight, y.pixel(*average), "level");
  }
  const double radius = raters.size() > 60 ? 1.6 : 3.0;
  for (size_t r = 0; r < raters.size(); r += stride) {
    const RaterFigures& rater = raters[r];
    const double at = x.pixel(static_cast<double>(r + 1));
    out += svg_line(at, y.pixel(rater.low), at, y.pixel(rater.high), "whisker thin before");
    out += svg_circle(at, y.pixel(rater.reliability), radius, "dot thin after",
                      rater.name + ": " + figure(rater.reliability) + " (" +
                          interval_text(rater.low, rater.high) + "), " + figure(rater.answers) +
                          " answers");
  }
  out += svg_text((kLeft + kRight) / 2, kHeight - 6, "middle", "title", "raters, best first");
  std::string note = "A dot is a rater, its line where 95 % of the probability lies.";
  if (stride > 1) note += " Every " + figure(static_cast<double>(stride)) + "th is drawn.";
  std::string legend = legend_entry("after", "rater");
  if (average) legend += legend_entry("level", "average of all");
  return svg_figure({.title = "Reliability of each rater",
                     .unit = "probability of an answer that follows the texts",
                     .spoken = "From " + figure(raters.back().reliability) + " to " +
                               figure(raters.front().reliability),
                     .drawing = out,
                     .legend = legend,
                     .note = note,
                     .height = kHeight});
}

/// The least reliable first.
std::string table(const std::vector<RaterFigures>& raters) {
  const bool sides = raters.front().side.has_value();
  std::string out =
      "<h3>Least reliable</h3><div class=\"scroll\"><table class=\"narrow\"><thead><tr>"
      "<th>rater</th><th>answers</th><th>reliability</th><th>95 %</th>";
  if (sides) out += "<th>first place</th>";
  out += "</tr></thead><tbody>";
  for (size_t r = 0; r < std::min(kMostRows, raters.size()); ++r) {
    const RaterFigures& rater = raters[raters.size() - 1 - r];
    out += "<tr><td>" + escape(rater.name) + "</td><td>" + figure(rater.answers) + "</td><td>" +
           figure(rater.reliability) + "</td><td>" + interval_text(rater.low, rater.high) + "</td>";
    if (sides) out += "<td>" + (rater.side ? signed_figure(*rater.side) : "") + "</td>";
    out += "</tr>";
  }
  out += "</tbody></table></div>";
  if (sides) {
    out +=
        "<p class=\"note\">First place: the share of answers that went to the text shown first "
        "for no other reason; negative: to the one shown last.</p>";
  }
  return out;
}

}  // namespace

std::string raters_section(const RunFiles& run) {
  const auto judged = run.summary.number("reward.raters_judged");
  const auto few = run.summary.number("reward.raters_with_few_answers");
  const auto average = run.summary.number("reward.rater_reliability");
  const Stage* stage = run.stage("reward");
  if (!judged && (stage == nullptr || stage->raters.empty())) return "";
  std::string lead =
      "<p class=\"lead\">Reward training weighed every answer by what it learned of "
      "its rater.";
  if (average) {
    lead += " Somebody of whom nothing is known is believed " + figure(average) + ".";
  }
  if (few && *few > 0) {
    lead += " " + figure(few) + " raters gave too few answers to be judged and are not shown.";
  }
  lead += "</p>";
  std::string body;
  if (stage != nullptr && !stage->raters.empty()) {
    body = "<div class=\"charts two\">" + picture(stage->raters, average) +
           metric_chart(run.series("reward", "reward/rater_reliability"),
                        "Average reliability in training", "probability", "step", false) +
           "</div>" + table(stage->raters);
  }
  return "<section id=\"raters\"><h2>The raters</h2>" + lead + body + "</section>\n";
}

}  // namespace hone::engine::report
