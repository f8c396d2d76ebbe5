#pragma once

#include <cstdint>
#include <vector>

#include "reward/preference_data.h"

namespace hone::reward {

/// Share of votes without ties whose sign `scores` (indexed by item) gets right.
double pair_accuracy(const std::vector<float>& scores, const std::vector<Vote>& votes);

/// Temperature t > 0 minimising the log loss of sigma((s_a - s_b) / t) on votes without ties.
double fit_temperature(const std::vector<float>& scores, const std::vector<Vote>& votes);

struct CalibrationBin {
  double confidence = 0, accuracy = 0;
  int64_t count = 0;
};
struct Calibration {
  double ece = 0;    // expected calibration error over the bins
  double brier = 0;
  double log_loss = 0;
  std::vector<CalibrationBin> bins;  // 10 bins of confidence .5 to 1
};
Calibration calibration(const std::vector<float>& scores, const std::vector<Vote>& votes,
                        double temperature);

}  // namespace hone::reward
