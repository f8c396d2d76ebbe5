#pragma once

// The pieces every chart is made of.

#include <string>

#include "engine/report/axis.h"

namespace hone::engine::report {

/// A pixel with one decimal.
std::string px(double pixel);
std::string svg_text(double x, double y, const std::string& anchor, const std::string& css_class,
                     const std::string& text);
std::string svg_line(double x1, double y1, double x2, double y2, const std::string& css_class);
/// `extra` stands inside the tag, `tooltip` in a <title>.
std::string svg_circle(double x, double y, double radius, const std::string& css_class,
                       const std::string& tooltip);

/// Grid lines and labels of both axes of a plot area.
std::string svg_grid(const Axis& x, const Axis& y, double left, double right, double top,
                     double bottom);

/// <figure> with title, unit, drawing, legend and note. `spoken`: the figures in words.
struct Figure {
  std::string title, unit, spoken, drawing, legend, note;
  double width = 360, height = 220;
};
std::string svg_figure(const Figure& figure);
/// One entry of a legend.
std::string legend_entry(const std::string& color, const std::string& name);

}  // namespace hone::engine::report
