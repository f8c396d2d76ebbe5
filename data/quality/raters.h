#pragma once

// What the journal's answers say of raters, of their agreement and of days: pure functions. Answers
// that were taken back do not count.

#include <cstdint>
#include <string>
#include <vector>

#include "data/journal/journal.h"
#include "data/quality/alpha.h"

namespace hone::data::quality {

/// A share with its interval.
struct Share {
  int64_t part = 0, of = 0;
  Interval interval;
};

struct RaterQuality {
  std::string pseudonym;
  int64_t answers = 0, ties = 0, skips = 0, both_bad = 0, flagged = 0;
  double median_seconds = 0.0;
  Share gold;  // right of gold questions; confidence_sequence
  Share
      position;  // left preferred of decided pairs; confidence_sequence: biased when 1/2 is outside
  Share repeats;  // own questions seen again, the same said; Wilson's
};
std::vector<RaterQuality> rater_quality(const std::vector<JournalAnswer>& answers);

struct Agreement {
  std::string kind, distance;  // of question; "nominal", "ordinal" or "interval"
  Alpha alpha;
};
/// Of each kind of question that has one. Pairs: nominal over first, second, tie, both bad; ordinal
/// over signed strength. Rankings: nominal over the order of every two candidates. Ratings:
/// interval over each candidate and dimension. Steps: ordinal. Reviews: nominal. Repeats and
/// experts' decisions are left out.
std::vector<Agreement> agreement(const std::vector<JournalAnswer>& answers, int resamples = 1000,
                                 uint64_t seed = 0);

/// One day (UTC), for drift over time.
struct DayQuality {
  int64_t start_us = 0;
  int64_t answers = 0, ties = 0, skips = 0, both_bad = 0, flagged = 0;
  double median_seconds = 0.0;
  Share gold, repeats;
  double alpha = 0.0;  // nominal, of the day's pairs; NaN: none
};
std::vector<DayQuality> daily_quality(const std::vector<JournalAnswer>& answers);

}  // namespace hone::data::quality
