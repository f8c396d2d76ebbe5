#pragma once

// Charts as inline SVG in <figure>, drawn in a 360-wide box so that their text stays readable on a
// phone. Each has axes, a title with its unit, and its figures as text for those who cannot see it.
// Colors are classes of the page's style ("before", "after", "people", "muted").

#include <optional>
#include <string>
#include <vector>

#include "engine/report/run_files.h"

namespace hone::engine::report {

struct ChartPoint {
  double x = 0, y = 0, error = 0;  // error: one standard error, 0 = none drawn
  std::string note;                // shown on hover before the value
};

struct ChartLine {
  std::string name, color = "after";
  std::vector<ChartPoint> points;  // a y that is not finite breaks the line
  bool dots = false;
};

/// A horizontal dashed line at a value worth comparing with.
struct ChartLevel {
  double y = 0;
  std::string name;
};

struct LineChart {
  std::string title = "", unit = "", x_title = "", note = "";
  std::vector<ChartLine> lines = {};
  std::vector<ChartLevel> levels = {};
  bool from_zero = false;  // y starts at 0 where all values are >= 0
  bool x_from_zero = false;
};

/// Empty when no line has a finite point. More than 100 points of a line are drawn as the mean and
/// the range of 60 buckets.
std::string line_chart(const LineChart& chart);

/// A chart of one recorded metric; empty when `series` is null or empty.
std::string metric_chart(const Series* series, const std::string& title, const std::string& unit,
                         const std::string& x_title, bool from_zero);

struct Bar {
  std::string name, color;
  double value = 0;
};
struct BarGroup {
  std::string name;
  std::vector<Bar> bars;
};
/// Horizontal bars that start at `base` (for accuracies: chance).
std::string bar_chart(const std::string& title, const std::string& unit, double base,
                      const std::vector<BarGroup>& groups, const std::string& note);

/// Stated confidence against the share that was right; a dot's area is its number of pairs.
std::string calibration_plot(const std::vector<CalibrationBin>& bins,
                             const std::vector<CalibrationBin>& raw_bins, const std::string& note);

struct Mark {
  std::string name, color;
  double value = 0, error = 0;
};
/// Scores on one axis with their standard errors, one row each.
std::string interval_plot(const std::string& title, const std::string& unit,
                          const std::vector<Mark>& marks, const std::string& note);

}  // namespace hone::engine::report
