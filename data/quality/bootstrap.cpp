#include "data/quality/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace hone::data::quality {
namespace {

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t kMostSteps = 50'000'000;  // over all resamples

}  // namespace

Interval bootstrap_interval(int64_t units, int resamples, uint64_t seed,
                            const std::function<double(const std::vector<int64_t>&)>& statistic,
                            int64_t cost) {
  if (units <= 0 || resamples <= 0) return {kNothing, kNothing};
  resamples = static_cast<int>(std::clamp<int64_t>(kMostSteps / (units * cost), 50, resamples));
  std::mt19937_64 random(seed);
  std::vector<double> drawn;
  std::vector<int64_t> times(static_cast<std::size_t>(units));
  for (int resample = 0; resample < resamples; ++resample) {
    std::fill(times.begin(), times.end(), 0);
    // By multiplication, so that the draws are the same with every standard library.
    for (int64_t i = 0; i < units; ++i) {
      const double position = static_cast<double>(random() >> 11) * 0x1.0p-53;
      ++times[static_cast<std::size_t>(position * static_cast<double>(units))];
    }
    const double value = statistic(times);
    if (!std::isnan(value)) drawn.push_back(value);
  }
  if (drawn.empty()) return {kNothing, kNothing};
  std::sort(drawn.begin(), drawn.end());
  const auto at = [&](double share) {
    return drawn[static_cast<std::size_t>(share * static_cast<double>(drawn.size() - 1) + 0.5)];
  };
  return {at(0.025), at(0.975)};
}

}  // namespace hone::data::quality
