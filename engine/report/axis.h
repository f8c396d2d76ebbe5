#pragma once

#include <string>
#include <vector>

namespace hone::engine::report {

/// A range of values, the round numbers in it (1, 2 or 5 times a power of ten apart) and the
/// pixels it is drawn on.
class Axis {
 public:
  /// Widens [low, high] to whole ticks; `wanted` ticks, give or take. A range that is empty or
  /// not finite becomes one unit around it.
  static Axis covering(double low, double high, int wanted);
  /// Exactly [low, high].
  static Axis exactly(double low, double high, double tick);

  void draw_on(double from_pixel, double to_pixel);
  double pixel(double value) const;
  const std::vector<double>& ticks() const { return ticks_; }
  /// A tick as text, with as many decimals as the distance of ticks needs.
  std::string label(double tick) const;
  double low() const { return low_; }
  double high() const { return high_; }

 private:
  void place_ticks();
  double low_ = 0, high_ = 1, tick_ = 1, from_ = 0, to_ = 1;
  std::vector<double> ticks_;
};

}  // namespace hone::engine::report
