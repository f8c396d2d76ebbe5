#pragma once

// Krippendorff's alpha: agreement of any number of people, each of whom judged some of the units.

#include <cstdint>
#include <vector>

#include "data/quality/intervals.h"

namespace hone::data::quality {

/// One person's value for one unit.
struct Coding {
  int64_t unit = 0;
  double value = 0.0;
};

/// Squared distance of two values: 0 or 1; by ranks (the frequencies between them); by difference.
enum class Distance { kNominal, kOrdinal, kInterval };

struct Alpha {
  double value = 0.0;   // 1: perfect, 0: as by chance; NaN: nothing to compare, or only one value
  Interval interval;    // percentile bootstrap over units, 95 %; NaN without resamples
  int64_t units = 0;    // with two values or more
  int64_t codings = 0;  // in them
};

/// Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", from coincidences:
/// alpha = 1 - (n - 1) sum_ck o_ck d2_ck / sum_ck n_c n_k d2_ck. The same seed gives the same
/// interval.
Alpha krippendorff_alpha(const std::vector<Coding>& codings, Distance distance,
                         int resamples = 1000, uint64_t seed = 0);

}  // namespace hone::data::quality
