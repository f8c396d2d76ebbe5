#include "data/service/proportion.h"

#include <algorithm>
#include <cmath>

namespace hone::data::service {
namespace {

constexpr int kHalvings = 60;

double log_beta(double a, double b) { return std::lgamma(a) + std::lgamma(b) - std::lgamma(a + b); }

/// n log p, with 0 log 0 = 0.
double times_log(double n, double p) { return n > 0.0 ? n * std::log(p) : 0.0; }

}  // namespace

ShareInterval share_at_any_time(int64_t successes, int64_t of, double error) {
  if (of <= 0) return {};
  const auto s = static_cast<double>(std::clamp<int64_t>(successes, 0, of));
  const double f = static_cast<double>(of) - s;
  const double mixture = log_beta(0.5 + s, 0.5 + f) - log_beta(0.5, 0.5);
  const double limit = -std::log(error);
  const auto is_outside = [&](double p) {
    return mixture - times_log(s, p) - times_log(f, 1.0 - p) >= limit;
  };
  // The martingale is convex in p with its least value at s / (s + f), which is always inside.
  const double middle = s / (s + f);
  const auto edge = [&](double outside, double inside) {
    if (!is_outside(outside)) return outside;
    for (int i = 0; i < kHalvings; ++i) {
      const double between = (outside + inside) / 2.0;
      (is_outside(between) ? outside : inside) = between;
    }
    return inside;
  };
  return {edge(0.0, middle), edge(1.0, middle)};
}

}  // namespace hone::data::service
