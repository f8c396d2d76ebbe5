#include "data/quality/intervals.h"

#include <algorithm>
#include <cmath>

namespace hone::data::quality {
namespace {

/// Of the standard normal distribution, by bisection of its error function.
double normal_quantile(double probability) {
  double low = -10, high = 10;
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (std::erfc(-middle / std::sqrt(2.0)) / 2 < probability ? low : high) = middle;
  }
  return (low + high) / 2;
}

double log_beta(double a, double b) { return std::lgamma(a) + std::lgamma(b) - std::lgamma(a + b); }

double log_likelihood(double p, double successes, double failures) {
  double sum = 0;
  if (successes > 0) sum += successes * std::log(p);
  if (failures > 0) sum += failures * std::log1p(-p);
  return sum;
}

}  // namespace

Interval wilson_interval(int64_t successes, int64_t trials, double level) {
  if (trials <= 0) return {};
  const auto n = static_cast<double>(trials);
  const double share = static_cast<double>(successes) / n;
  const double z = normal_quantile(0.5 + level / 2), z2 = z * z;
  const double middle = (share + z2 / (2 * n)) / (1 + z2 / n);
  const double half = z / (1 + z2 / n) * std::sqrt(share * (1 - share) / n + z2 / (4 * n * n));
  return {std::max(0.0, middle - half), std::min(1.0, middle + half)};
}

Interval confidence_sequence(int64_t successes, int64_t trials, double level) {
  if (trials <= 0) return {};
  const auto s = static_cast<double>(successes), f = static_cast<double>(trials - successes);
  const double mixture = log_beta(s + 0.5, f + 0.5) - log_beta(0.5, 0.5);
  const double most = -std::log1p(-level);
  const auto is_in = [&](double p) { return mixture - log_likelihood(p, s, f) < most; };
  const double share = s / (s + f);
  // The likelihood falls on both sides of the share.
  const auto edge = [&](double outside, double inside) {
    for (int i = 0; i < 100; ++i) {
      const double middle = (outside + inside) / 2;
      (is_in(middle) ? inside : outside) = middle;
    }
    return inside;
  };
  return {successes == 0 ? 0.0 : edge(0.0, share), f == 0 ? 1.0 : edge(1.0, share)};
}

}  // namespace hone::data::quality
