#include "engine/report/axis.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace hone::engine::report {

Axis Axis::covering(double low, double high, int wanted) {
  if (!std::isfinite(low) || !std::isfinite(high) || low > high) low = 0, high = 1;
  if (high - low < 1e-9 * std::max({std::abs(low), std::abs(high), 1e-6})) {
    const double half = low == 0 ? 0.5 : 0.1 * std::abs(low);
    low -= half;
    high += half;
  }
  const double raw = (high - low) / wanted;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  double tick = 10 * power;
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= raw * 0.999) {
      tick = factor * power;
      break;
    }
  }
  return exactly(std::floor(low / tick + 1e-9) * tick, std::ceil(high / tick - 1e-9) * tick, tick);
}

Axis Axis::exactly(double low, double high, double tick) {
  Axis out;
  out.low_ = low;
  out.high_ = high;
  out.tick_ = tick;
  const double first = std::ceil(low / tick - 1e-9);
  for (int i = 0; i < 100; ++i) {
    const double at = (first + i) * tick;
    if (at > high + 1e-9 * std::abs(tick)) break;
    out.ticks_.push_back(at == 0 ? 0 : at);  // no -0
  }
  return out;
}

void Axis::draw_on(double from_pixel, double to_pixel) {
  from_ = from_pixel;
  to_ = to_pixel;
}

double Axis::pixel(double value) const {
  const double share = std::clamp((value - low_) / (high_ - low_), -0.02, 1.02);
  return from_ + share * (to_ - from_);
}

std::string Axis::label(double tick) const {
  char out[64];
  if (std::abs(high_) >= 1e6 || std::abs(low_) >= 1e6 || tick_ < 1e-4) {
    std::snprintf(out, sizeof out, "%.3g", tick);
  } else {
    const int decimals = std::max(0, static_cast<int>(std::ceil(-std::log10(tick_) - 1e-9)));
    std::snprintf(out, sizeof out, "%.*f", decimals, tick);
  }
  std::string text = out;
  if (text[0] == '-') text.replace(0, 1, "−");
  return text;
}

}  // namespace hone::engine::report
