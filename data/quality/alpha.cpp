#include "data/quality/alpha.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "data/quality/bootstrap.h"

namespace hone::data::quality {
namespace {

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();

/// How often each value (by its rank among the values) was given to a unit.
using Counts = std::vector<std::pair<std::size_t, int64_t>>;

class Coincidences {
 public:
  Coincidences(const std::vector<double>& values, Distance distance)
      : values_(values),
        distance_(distance),
        observed_(values.size() * values.size(), 0.0),
        totals_(values.size(), 0.0) {}

  void clear() {
    std::fill(observed_.begin(), observed_.end(), 0.0);
    std::fill(totals_.begin(), totals_.end(), 0.0);
  }

  /// The unit `times` times.
  void add(const Counts& counts, double times) {
    int64_t given = 0;
    for (const auto& [value, count] : counts) given += count;
    const double weight = times / static_cast<double>(given - 1);
    for (const auto& [c, count_c] : counts) {
      totals_[c] += times * static_cast<double>(count_c);
      for (const auto& [k, count_k] : counts) {
        const auto pairs = static_cast<double>(count_c * (count_k - (c == k ? 1 : 0)));
        observed_[c * values_.size() + k] += weight * pairs;
      }
    }
  }

  double alpha() const {
    double n = 0, disagreement = 0, expected = 0;
    for (const double total : totals_) n += total;
    for (std::size_t c = 0; c < values_.size(); ++c) {
      double between = totals_[c] / 2;  // of ranks, from the middle of c to the middle of k
      for (std::size_t k = c + 1; k < values_.size(); ++k) {
        between += totals_[k] / 2;
        const double d2 = squared(c, k, between);
        between += totals_[k] / 2;
        disagreement += observed_[c * values_.size() + k] * d2;
        expected += totals_[c] * totals_[k] * d2;
      }
    }
    return expected > 0 ? 1 - (n - 1) * disagreement / expected : kNothing;
  }

 private:
  double squared(std::size_t c, std::size_t k, double between) const {
    switch (distance_) {
      case Distance::kNominal:
        return 1.0;
      case Distance::kOrdinal:
        return between * between;
      case Distance::kInterval:
        break;
    }
    return (values_[c] - values_[k]) * (values_[c] - values_[k]);
  }

  const std::vector<double>& values_;
  Distance distance_;
  std::vector<double> observed_, totals_;
};

}  // namespace

Alpha krippendorff_alpha(const std::vector<Coding>& codings, Distance distance, int resamples,
                         uint64_t seed) {
  std::vector<double> values;
  for (const Coding& one : codings) values.push_back(one.value);
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  std::map<int64_t, std::map<std::size_t, int64_t>> by_unit;
  for (const Coding& one : codings) {
    const auto rank = std::lower_bound(values.begin(), values.end(), one.value) - values.begin();
    ++by_unit[one.unit][static_cast<std::size_t>(rank)];
  }
  Alpha alpha;
  std::vector<Counts> units;
  for (const auto& [unit, counts] : by_unit) {
    int64_t given = 0;
    for (const auto& [value, count] : counts) given += count;
    if (given < 2) continue;
    units.emplace_back(counts.begin(), counts.end());
    alpha.codings += given;
  }
  alpha.units = static_cast<int64_t>(units.size());
  Coincidences coincidences(values, distance);
  for (const Counts& unit : units) coincidences.add(unit, 1.0);
  alpha.value = units.empty() ? kNothing : coincidences.alpha();
  const int draws = std::isnan(alpha.value) ? 0 : resamples;
  alpha.interval =
      bootstrap_interval(alpha.units, draws, seed, [&](const std::vector<int64_t>& times) {
        coincidences.clear();
        for (std::size_t i = 0; i < units.size(); ++i) {
          if (times[i] > 0) coincidences.add(units[i], static_cast<double>(times[i]));
        }
        return coincidences.alpha();
      });
  return alpha;
}

}  // namespace hone::data::quality
