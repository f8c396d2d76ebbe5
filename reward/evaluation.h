#pragma once

// How well scores predict held-out votes. Votes with a target of one half (ties) are left out
// everywhere; equal scores count as half right. All throw data::InputError for votes that index
// outside `scores`.

#include <cstdint>
#include <vector>

#include "reward/preference_data.h"

namespace hone::reward {

/// Share of votes without ties whose sign `scores` (indexed by item) gets right; 0 without votes.
double pair_accuracy(const std::vector<float>& scores, const std::vector<Vote>& votes);

/// Temperature t > 0 minimising the log loss of sigma((s_a - s_b) / t) on votes without ties
/// (Guo et al. 2017). Between 1e-3 and 1e3 mean score differences, reached when the votes are
/// separable or worse than chance; 1 when no vote says anything.
double fit_temperature(const std::vector<float>& scores, const std::vector<Vote>& votes);

struct CalibrationBin {
  double confidence = 0, accuracy = 0;
  int64_t count = 0;
};
struct Calibration {
  double ece = 0;                    // expected calibration error over the bins
  double brier = 0;                  // mean squared error of the probability of the vote
  double log_loss = 0;               // nats a vote
  std::vector<CalibrationBin> bins;  // 10 bins of confidence .5 to 1
};
/// Of the probabilities sigma((s_a - s_b) / temperature); temperature > 0.
Calibration calibration(const std::vector<float>& scores, const std::vector<Vote>& votes,
                        double temperature);

}  // namespace hone::reward
