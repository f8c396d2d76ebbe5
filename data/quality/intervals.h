#pragma once

// Intervals for shares.

#include <cstdint>

namespace hone::data::quality {

struct Interval {
  double low = 0.0, high = 1.0;
};

/// Wilson's score interval (1927): for a count that is looked at once. [0, 1] without trials.
Interval wilson_interval(int64_t successes, int64_t trials, double level = 0.95);

/// Anytime-valid: with probability `level` the true share is in ALL of the intervals as trials come
/// in, so one may look after each and stop when one likes. Those p for which the martingale of the
/// beta(1/2, 1/2) mixture, B(s + 1/2, f + 1/2) / (B(1/2, 1/2) p^s (1 - p)^f), is below
/// 1 / (1 - level) (Robbins 1970; Ville's inequality).
Interval confidence_sequence(int64_t successes, int64_t trials, double level = 0.95);

}  // namespace hone::data::quality
