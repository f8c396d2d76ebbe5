#include <algorithm>
#include <cmath>

#include "engine/report/charts.h"
#include "engine/report/html.h"
#include "engine/report/svg.h"

namespace hone::engine::report {
namespace {

constexpr double kLeft = 112, kRight = 348, kTop = 6, kRow = 20, kGroupTitle = 22, kGap = 8;
constexpr double kFigureWidth = 84;  // of "0.621 ± 0.016" in the style's value size

}  // namespace

std::string bar_chart(const std::string& title, const std::string& unit, double base,
                      const std::vector<BarGroup>& groups, const std::string& note) {
  double low = base, high = base, height = kTop;
  std::string spoken;
  for (const BarGroup& group : groups) {
    if (group.bars.empty()) continue;
    height += kGroupTitle + kRow * static_cast<double>(group.bars.size()) + kGap;
    spoken += group.name + ": ";
    for (const Bar& bar : group.bars) {
      low = std::min(low, bar.value);
      high = std::max(high, bar.value);
      spoken += bar.name + " " + figure(bar.value) + "; ";
    }
  }
  if (spoken.empty()) return "";
  Axis x = Axis::covering(low, high, 5);
  x.draw_on(kLeft, kRight - 34);

  std::string out;
  for (const double tick : x.ticks()) {
    out += svg_text(x.pixel(tick), height + 14, "middle", "tick", x.label(tick));
  }
  double at = kTop;
  for (const BarGroup& group : groups) {
    if (group.bars.empty()) continue;
    out += svg_text(0, at + 15, "start", "group", group.name);
    at += kGroupTitle;
    const double bottom = at + kRow * static_cast<double>(group.bars.size());
    for (const double tick : x.ticks()) {
      const bool is_base = std::abs(tick - base) < 1e-9;
      out += svg_line(x.pixel(tick), at, x.pixel(tick), bottom, is_base ? "axis" : "grid");
    }
    for (const Bar& bar : group.bars) {
      const double from = x.pixel(std::min(base, bar.value)),
                   to = x.pixel(std::max(base, bar.value));
      out += svg_text(kLeft - 8, at + 13, "end", "tick", bar.name);
      out += "<rect x=\"" + px(from) + "\" y=\"" + px(at + 3) + "\" width=\"" + px(to - from) +
             "\" height=\"" + px(kRow - 6) + "\" rx=\"2\" class=\"fill " + bar.color + "\"/>";
      out += svg_text(to + 5, at + 13.5, "start", "value", figure(bar.value));
      at += kRow;
    }
    at += kGap;
  }
  return svg_figure({.title = title,
                     .unit = unit,
                     .spoken = spoken,
                     .drawing = out,
                     .legend = "",
                     .note = note,
                     .height = height + 20});
}

std::string interval_plot(const std::string& title, const std::string& unit,
                          const std::vector<Mark>& marks, const std::string& note) {
  if (marks.empty()) return "";
  double low = marks[0].value, high = low;
  std::string spoken;
  for (const Mark& mark : marks) {
    low = std::min(low, mark.value - mark.error);
    high = std::max(high, mark.value + mark.error);
    spoken += mark.name + " " + figure(mark.value) +
              (mark.error > 0 ? " plus or minus " + figure(mark.error) : "") + "; ";
  }
  if (low > 0 && low < 0.5 * high) low = 0;
  const double row = 26, height = kTop + row * static_cast<double>(marks.size());
  Axis x = Axis::covering(low, high, 4);
  x.draw_on(kLeft + 16, kRight - 12);
  std::string out;
  for (const double tick : x.ticks()) {
    out += svg_line(x.pixel(tick), kTop, x.pixel(tick), height, "grid");
    out += svg_text(x.pixel(tick), height + 15, "middle", "tick", x.label(tick));
  }
  double at = kTop + row / 2;
  for (const Mark& mark : marks) {
    out += svg_text(kLeft + 6, at + 4, "end", "tick", mark.name);
    const double middle = x.pixel(mark.value);
    const double right = x.pixel(mark.value + mark.error);
    if (mark.error > 0) {
      const double left = x.pixel(mark.value - mark.error);
      out += svg_line(left, at, right, at, "whisker " + mark.color);
      for (const double end : {left, right}) {
        out += svg_line(end, at - 5, end, at + 5, "whisker " + mark.color);
      }
    }
    out += svg_circle(middle, at, 4, "dot " + mark.color, "");
    const std::string shown =
        figure(mark.value) + (mark.error > 0 ? " ± " + figure(mark.error) : "");
    const double width = mark.error > 0 ? kFigureWidth : kFigureWidth / 2;
    const double after = std::max(right, middle + 5) + 6;
    const double before = std::min(x.pixel(mark.value - mark.error), middle - 5) - 6;
    if (after + width < kRight) {
      out += svg_text(after, at + 4, "start", "value", shown);
    } else if (before - width > kLeft + 6) {
      out += svg_text(before, at + 4, "end", "value", shown);
    } else {  // a whisker as long as the axis: above it
      const double half = width / 2;
      out += svg_text(std::clamp(middle, kLeft + 10 + half, kRight - half), at - 7, "middle",
                      "value", shown);
    }
    at += row;
  }
  return svg_figure({.title = title,
                     .unit = unit,
                     .spoken = spoken,
                     .drawing = out,
                     .legend = "",
                     .note = note,
                     .height = height + 22});
}

}  // namespace hone::engine::report
