#pragma once

// How far people agree: Krippendorff's alpha for any distance, with an interval.
// K. Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011: alpha = 1 - Do / De, where Do
// is the mean squared distance of values within things that several people judged, and De that of
// any two values.

#include <cstdint>
#include <optional>
#include <vector>

namespace hone::data::service {

/// The squared distance of two values: 0 or 1; of their ranks among all values; of the numbers.
enum class Distance : uint8_t { kNominal, kOrdinal, kInterval };

/// The values that people gave to one thing.
struct JudgedUnit {
  uint64_t question = 0;  // units of one question are not independent of each other
  std::vector<float> values;
};

struct Agreement {
  double alpha = 0.0;
  double low = 0.0, high = 0.0;  // 95 %: delete-a-group jackknife over questions
  int64_t questions = 0;         // that at least two people judged
  int64_t values = 0;            // of these questions
};

/// Nothing when fewer than two questions have two values, or when all values are equal (alpha is
/// not defined then). Cost: linear in the values, and a few dozen times the square of the number of
/// distinct ones.
std::optional<Agreement> krippendorff_alpha(const std::vector<JudgedUnit>& units,
                                            Distance distance);

}  // namespace hone::data::service
