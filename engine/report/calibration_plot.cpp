#include <algorithm>
#include <cmath>

#include "engine/report/charts.h"
#include "engine/report/html.h"
#include "engine/report/svg.h"

namespace hone::engine::report {
namespace {

constexpr double kLeft = 44, kRight = 344, kTop = 10, kBottom = 182, kHeight = 220;

std::string draw(const std::vector<CalibrationBin>& bins, const std::string& color, double largest,
                 const Axis& x, const Axis& y) {
  std::string line, dots;
  for (const CalibrationBin& bin : bins) {
    const double at_x = x.pixel(bin.confidence), at_y = y.pixel(bin.accuracy);
    line += (line.empty() ? "M" : "L") + px(at_x) + " " + px(at_y) + " ";
    dots += svg_circle(at_x, at_y, 2.5 + 7 * std::sqrt(bin.count / largest), "bubble " + color,
                       "said " + figure(bin.confidence) + ", right " + figure(bin.accuracy) + ", " +
                           figure(bin.count) + " pairs");
  }
  return "<path d=\"" + line + "\" class=\"line thin " + color + "\"/>" + dots;
}

std::string speak(const std::string& name, const std::vector<CalibrationBin>& bins) {
  std::string out = bins.empty() ? "" : name + ": ";
  for (const CalibrationBin& bin : bins) {
    out += "said " + figure(bin.confidence) + " right " + figure(bin.accuracy) + "; ";
  }
  return out;
}

}  // namespace

std::string calibration_plot(const std::vector<CalibrationBin>& bins,
                             const std::vector<CalibrationBin>& raw_bins, const std::string& note) {
  if (bins.empty() && raw_bins.empty()) return "";
  double low = 0.5, largest = 1;
  for (const auto* list : {&bins, &raw_bins}) {
    for (const CalibrationBin& bin : *list) {
      low = std::min({low, bin.confidence, bin.accuracy});
      largest = std::max(largest, bin.count);
    }
  }
  low = std::max(0.0, std::floor(low * 10 + 1e-9) / 10);
  Axis x = Axis::exactly(low, 1, low < 0.3 ? 0.2 : 0.1), y = x;
  x.draw_on(kLeft, kRight);
  y.draw_on(kBottom, kTop);
  std::string out = svg_grid(x, y, kLeft, kRight, kTop, kBottom);
  out += svg_line(x.pixel(low), y.pixel(low), x.pixel(1), y.pixel(1), "level");
  out += svg_text((kLeft + kRight) / 2, kHeight - 6, "middle", "title",
                  "probability the reward model states");
  out += draw(raw_bins, "before", largest, x, y) + draw(bins, "after", largest, x, y);
  std::string legend;
  if (!raw_bins.empty()) legend += legend_entry("before", "as trained");
  if (!bins.empty()) legend += legend_entry("after", "after temperature");
  legend += legend_entry("level", "perfect");
  return svg_figure({.title = "Calibration",
                     .unit = "share of pairs it had right",
                     .spoken = speak("As trained", raw_bins) + speak("After temperature", bins),
                     .drawing = out,
                     .legend = legend,
                     .note = note,
                     .height = kHeight});
}

}  // namespace hone::engine::report
