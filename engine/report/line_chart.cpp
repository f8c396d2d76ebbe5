#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/report/charts.h"
#include "engine/report/html.h"
#include "engine/report/svg.h"

namespace hone::engine::report {
namespace {

constexpr double kLeft = 44, kRight = 350, kTop = 10, kBottom = 182, kHeight = 220;
constexpr size_t kDrawnAsIs = 100, kBuckets = 60, kHovered = 40;

struct Bucket {
  double x = 0, mean = 0, low = 0, high = 0;
};

// Equal shares of the x range; a bucket without finite points is left out.
std::vector<Bucket> buckets_of(const std::vector<ChartPoint>& points) {
  const double first = points.front().x;
  const double span = std::max(points.back().x - first, 1e-12);
  std::vector<Bucket> buckets(kBuckets);
  std::vector<size_t> counts(kBuckets, 0);
  for (const ChartPoint& point : points) {
    if (!std::isfinite(point.y)) continue;
    const double share = std::clamp((point.x - first) / span, 0.0, 1.0);
    const size_t i = std::min(kBuckets - 1, static_cast<size_t>(share * kBuckets));
    Bucket& bucket = buckets[i];
    bucket.low = counts[i] ? std::min(bucket.low, point.y) : point.y;
    bucket.high = counts[i] ? std::max(bucket.high, point.y) : point.y;
    bucket.x += point.x;
    bucket.mean += point.y;
    ++counts[i];
  }
  std::vector<Bucket> out;
  for (size_t i = 0; i < kBuckets; ++i) {
    if (counts[i] == 0) continue;
    buckets[i].x /= static_cast<double>(counts[i]);
    buckets[i].mean /= static_cast<double>(counts[i]);
    out.push_back(buckets[i]);
  }
  return out;
}

std::vector<ChartPoint> finite_points(const ChartLine& line) {
  std::vector<ChartPoint> out;
  for (const ChartPoint& point : line.points) {
    if (std::isfinite(point.x) && std::isfinite(point.y)) out.push_back(point);
  }
  return out;
}

std::string vertex(const Axis& x, const Axis& y, double at_x, double at_y) {
  return px(x.pixel(at_x)) + " " + px(y.pixel(at_y)) + " ";
}

std::string path(const std::string& steps, const std::string& css_class) {
  return "<path d=\"" + steps + "\" class=\"" + css_class + "\"/>";
}

std::string draw_buckets(const ChartLine& line, const Axis& x, const Axis& y) {
  const std::vector<Bucket> buckets = buckets_of(line.points);
  std::string band, mean;
  for (const Bucket& b : buckets) {
    band += (band.empty() ? "M" : "L") + vertex(x, y, b.x, b.high);
    mean += (mean.empty() ? "M" : "L") + vertex(x, y, b.x, b.mean);
  }
  for (auto b = buckets.rbegin(); b != buckets.rend(); ++b)
    band += "L" + vertex(x, y, b->x, b->low);
  return path(band + "Z", "band " + line.color) + path(mean, "line " + line.color);
}

std::string draw_points(const ChartLine& line, const Axis& x, const Axis& y) {
  std::string steps, dots;
  bool pen_down = false;
  const size_t stride = std::max<size_t>(1, (line.points.size() + kHovered - 1) / kHovered);
  for (size_t i = 0; i < line.points.size(); ++i) {
    const ChartPoint& point = line.points[i];
    if (!std::isfinite(point.y) || !std::isfinite(point.x)) {
      pen_down = false;
      continue;
    }
    steps += (pen_down ? "L" : "M") + vertex(x, y, point.x, point.y);
    pen_down = true;
    const double at_x = x.pixel(point.x), at_y = y.pixel(point.y);
    if (point.error > 0) {
      dots += svg_line(at_x, y.pixel(point.y - point.error), at_x, y.pixel(point.y + point.error),
                       "line " + line.color);
    }
    std::string tooltip =
        (point.note.empty() ? figure(point.x) : point.note) + ": " + figure(point.y);
    if (point.error > 0) tooltip += " ± " + figure(point.error);
    if (line.dots) dots += svg_circle(at_x, at_y, 3.6, "dot " + line.color, "");
    if (i % stride == 0 || i + 1 == line.points.size()) {
      dots += svg_circle(at_x, at_y, 7, "hover", tooltip);
    }
  }
  return path(steps, "line " + line.color) + dots;
}

std::string spoken(const LineChart& chart) {
  std::string out;
  for (const ChartLine& line : chart.lines) {
    const auto points = finite_points(line);
    if (points.empty()) continue;
    const auto [low, high] =
        std::minmax_element(points.begin(), points.end(),
                            [](const ChartPoint& a, const ChartPoint& b) { return a.y < b.y; });
    out += (line.name.empty() ? "" : line.name + ": ") + "from " + figure(points.front().y) +
           " at " + chart.x_title + " " + figure(points.front().x) + " to " +
           figure(points.back().y) + " at " + figure(points.back().x) + ", lowest " +
           figure(low->y) + ", highest " + figure(high->y) + ". ";
  }
  for (const ChartLevel& level : chart.levels) out += level.name + ": " + figure(level.y) + ". ";
  return out;
}

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  void include(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

}  // namespace

std::string line_chart(const LineChart& chart) {
  Range x_range, y_range;
  size_t lost = 0;
  for (const ChartLine& line : chart.lines) {
    const auto points = finite_points(line);
    lost += line.points.size() - points.size();
    for (const ChartPoint& point : points) {
      x_range.include(point.x);
      y_range.include(point.y - point.error);
      y_range.include(point.y + point.error);
    }
  }
  if (x_range.low > x_range.high) return "";
  for (const ChartLevel& level : chart.levels) y_range.include(level.y);
  if (chart.from_zero && y_range.low >= 0) y_range.include(0);
  if (chart.x_from_zero) x_range.include(0);
  // The first step of a stage is close enough to its beginning.
  if (x_range.low > 0 && x_range.low < 0.1 * x_range.high) x_range.low = 0;

  Axis x = Axis::covering(x_range.low, x_range.high, 5);
  x = Axis::exactly(x_range.low, x_range.high > x_range.low ? x_range.high : x.high(),
                    x.ticks().size() > 1 ? x.ticks()[1] - x.ticks()[0] : 1);
  Axis y = Axis::covering(y_range.low, y_range.high, 4);
  x.draw_on(kLeft, kRight - 6);
  y.draw_on(kBottom, kTop);

  Figure out{.title = chart.title,
             .unit = chart.unit,
             .spoken = spoken(chart),
             .drawing = svg_grid(x, y, kLeft, kRight, kTop, kBottom),
             .legend = "",
             .note = chart.note,
             .height = kHeight};
  out.drawing += svg_text((kLeft + kRight) / 2, kHeight - 6, "middle", "title", chart.x_title);
  for (const ChartLevel& level : chart.levels) {
    const double at = y.pixel(level.y);
    out.drawing += svg_line(kLeft, at, kRight, at, "level");
    const bool above = at > kTop + 16;
    out.drawing += svg_text(kRight, above ? at - 5 : at + 13, "end", "tick", level.name);
  }
  for (const ChartLine& line : chart.lines) {
    if (finite_points(line).empty()) continue;
    out.drawing +=
        line.points.size() > kDrawnAsIs ? draw_buckets(line, x, y) : draw_points(line, x, y);
    if (!line.name.empty()) out.legend += legend_entry(line.color, line.name);
  }
  if (lost > 0) {
    out.note += std::string(out.note.empty() ? "" : " ") + std::to_string(lost) +
                " value(s) were not finite and leave a gap.";
  }
  return svg_figure(out);
}

std::string metric_chart(const Series* series, const std::string& title, const std::string& unit,
                         const std::string& x_title, bool from_zero) {
  if (!series) return "";
  LineChart chart{.title = title,
                  .unit = unit,
                  .x_title = x_title,
                  .note = "",
                  .lines = {ChartLine{}},
                  .levels = {},
                  .from_zero = from_zero};
  for (size_t i = 0; i < series->step.size(); ++i) {
    chart.lines[0].points.push_back(
        {series->step[i], series->value[i], 0, x_title + " " + figure(series->step[i])});
  }
  return line_chart(chart);
}

}  // namespace hone::engine::report
