#include "data/service/agreement.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <unordered_map>
#include <unordered_set>

namespace hone::data::service {
namespace {

constexpr std::size_t kGroups = 40;
// Student's t at 0.975 with kGroups - 1 degrees of freedom, to be used with up to kGroups groups.
constexpr double kQuantiles[] = {0,     12.71, 4.303, 3.182, 2.776, 2.571, 2.447,
                                 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
                                 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086};

double student_quantile(std::size_t degrees) {
  if (degrees < std::size(kQuantiles)) return kQuantiles[degrees];
  return 1.960 + 2.4 / static_cast<double>(degrees);  // within 0.003 from 21 on
}

/// Coincidences: how often value c meets value k within a unit, a unit of m values having m in all.
class Coincidences {
 public:
  explicit Coincidences(std::size_t size) : size_(size), counts_(size * size, 0.0) {}

  void add(const std::vector<std::size_t>& unit) {
    const double weight = 1.0 / static_cast<double>(unit.size() - 1);
    for (std::size_t i = 0; i < unit.size(); ++i) {
      for (std::size_t j = 0; j < unit.size(); ++j) {
        if (i != j) counts_[unit[i] * size_ + unit[j]] += weight;
      }
    }
  }

  void add(const Coincidences& other, double sign) {
    for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += sign * other.counts_[i];
  }

  /// NaN when all values are equal.
  double alpha(const std::vector<float>& values, Distance distance) const {
    std::vector<double> totals(size_, 0.0);
    double all = 0.0;
    for (std::size_t c = 0; c < size_; ++c) {
      for (std::size_t k = 0; k < size_; ++k) totals[c] += counts_[c * size_ + k];
      all += totals[c];
    }
    double observed = 0.0, expected = 0.0;
    for (std::size_t c = 0; c < size_; ++c) {
      double between = totals[c] / 2.0;  // values from c to k, the ends counted by half
      for (std::size_t k = c + 1; k < size_; ++k) {
        between += (totals[k - 1] + totals[k]) / 2.0 - (k == c + 1 ? totals[c] / 2.0 : 0.0);
        const double difference = static_cast<double>(values[k]) - static_cast<double>(values[c]);
        const double length = distance == Distance::kNominal   ? 1.0
                              : distance == Distance::kOrdinal ? between
                                                               : difference;
        observed += 2.0 * counts_[c * size_ + k] * length * length;
        expected += 2.0 * totals[c] * totals[k] * length * length;
      }
    }
    return expected > 0.0 ? 1.0 - (all - 1.0) * observed / expected : std::nan("");
  }

 private:
  std::size_t size_;
  std::vector<double> counts_;  // [c, k], symmetric
};

}  // namespace

std::optional<Agreement> krippendorff_alpha(const std::vector<JudgedUnit>& units,
                                            Distance distance) {
  std::map<float, std::size_t> numbers;
  std::unordered_set<uint64_t> questions;
  Agreement result;
  for (const auto& unit : units) {
    if (unit.values.size() < 2) continue;
    questions.insert(unit.question);
    result.values += static_cast<int64_t>(unit.values.size());
    for (const float value : unit.values) numbers[value] = 0;
  }
  result.questions = static_cast<int64_t>(questions.size());
  if (questions.size() < 2 || numbers.size() < 2) return std::nullopt;
  std::vector<float> values;
  for (auto& [value, number] : numbers) {
    number = values.size();
    values.push_back(value);
  }

  // Questions go round the groups in the order in which they come.
  const std::size_t count = std::min(kGroups, questions.size());
  std::unordered_map<uint64_t, std::size_t> group_of;
  std::vector<Coincidences> groups(count, Coincidences(values.size()));
  std::vector<std::size_t> indices;
  for (const auto& unit : units) {
    if (unit.values.size() < 2) continue;
    indices.clear();
    for (const float value : unit.values) indices.push_back(numbers[value]);
    const auto [found, fresh] = group_of.try_emplace(unit.question, group_of.size() % count);
    groups[found->second].add(indices);
  }
  Coincidences all(values.size());
  for (const auto& group : groups) all.add(group, 1.0);
  result.alpha = all.alpha(values, distance);

  std::vector<double> without;
  for (const auto& group : groups) {
    all.add(group, -1.0);
    const double alpha = all.alpha(values, distance);
    all.add(group, 1.0);
    if (std::isfinite(alpha)) without.push_back(alpha);
  }
  double mean = 0.0, squares = 0.0;
  for (const double alpha : without) mean += alpha / static_cast<double>(without.size());
  for (const double alpha : without) squares += (alpha - mean) * (alpha - mean);
  if (without.size() < 2) return std::nullopt;
  const auto g = static_cast<double>(without.size());
  const double error = std::sqrt(squares * (g - 1.0) / g) * student_quantile(without.size() - 1);
  result.low = std::max(-1.0, result.alpha - error);
  result.high = std::min(1.0, result.alpha + error);
  return result;
}

}  // namespace hone::data::service
