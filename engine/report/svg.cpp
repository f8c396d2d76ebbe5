#include "engine/report/svg.h"

#include <cstdio>

#include "engine/report/html.h"

namespace hone::engine::report {

std::string px(double pixel) {
  char out[32];
  std::snprintf(out, sizeof out, "%.1f", pixel);
  return out;
}

std::string svg_text(double x, double y, const std::string& anchor, const std::string& css_class,
                     const std::string& text) {
  return "<text x=\"" + px(x) + "\" y=\"" + px(y) + "\" text-anchor=\"" + anchor + "\" class=\"" +
         css_class + "\">" + escape(text) + "</text>";
}

std::string svg_line(double x1, double y1, double x2, double y2, const std::string& css_class) {
  return "<line x1=\"" + px(x1) + "\" y1=\"" + px(y1) + "\" x2=\"" + px(x2) + "\" y2=\"" + px(y2) +
         "\" class=\"" + css_class + "\"/>";
}

std::string svg_circle(double x, double y, double radius, const std::string& css_class,
                       const std::string& tooltip) {
  std::string out = "<circle cx=\"" + px(x) + "\" cy=\"" + px(y) + "\" r=\"" + px(radius) +
                    "\" class=\"" + css_class + "\"";
  return tooltip.empty() ? out + "/>" : out + "><title>" + escape(tooltip) + "</title></circle>";
}

std::string svg_grid(const Axis& x, const Axis& y, double left, double right, double top,
                     double bottom) {
  std::string out;
  for (const double tick : y.ticks()) {
    const double at = y.pixel(tick);
    out += svg_line(left, at, right, at, "grid");
    out += svg_text(left - 6, at + 4, "end", "tick", y.label(tick));
  }
  for (const double tick : x.ticks()) {
    const double at = x.pixel(tick);
    out += svg_line(at, bottom, at, bottom + 4, "axis");
    out += svg_text(at, bottom + 16, "middle", "tick", x.label(tick));
  }
  out += svg_line(left, bottom, right, bottom, "axis");
  out += svg_line(left, top, left, bottom, "axis");
  return out;
}

std::string svg_figure(const Figure& figure) {
  std::string out = "<figure><figcaption><b>" + escape(figure.title) + "</b>";
  if (!figure.unit.empty()) out += " <span>" + escape(figure.unit) + "</span>";
  out += "</figcaption><svg viewBox=\"0 0 " + px(figure.width) + " " + px(figure.height) +
         "\" role=\"img\" aria-label=\"" + escape(figure.title + ". " + figure.spoken) + "\">" +
         figure.drawing + "</svg>";
  if (!figure.legend.empty()) out += "<p class=\"legend\">" + figure.legend + "</p>";
  if (!figure.note.empty()) out += "<p class=\"note\">" + escape(figure.note) + "</p>";
  return out + "</figure>\n";
}

std::string legend_entry(const std::string& color, const std::string& name) {
  return "<span class=\"key\"><i class=\"" + color + "\"></i>" + escape(name) + "</span>";
}

}  // namespace hone::engine::report
