#pragma once

// Negative log-likelihood of a ranking of K scored items, and its gradient.
// Sources: Plackett 1975, Luce 1959; ties by Breslow's form (1974); all pairs of a ranking: Ouyang
// et al. 2022 (InstructGPT) eq. 1.

#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/math/host_device.h"
#include "kernels/math/preference.h"

namespace hone::kernels::math {

/// Items of one group. The lower rank is the better; equal ranks are a tie; a negative rank means
/// not ranked: below every ranked item, and nothing is known among such items. Without ranks the
/// items stand best first.
template <typename T>
struct RankedItems {
  const T* scores;
  const int64_t* ranks;  // or null
  int64_t size;

  HONE_HD bool ranked(int64_t i) const { return ranks == nullptr || ranks[i] >= 0; }
  HONE_HD int64_t place(int64_t i) const {
    if (ranks == nullptr) return i;
    return ranks[i] >= 0 ? ranks[i] : std::numeric_limits<int64_t>::max();
  }
};

/// log sum of e^score over the items that are not better than item i.
template <typename T>
HONE_HD double log_sum_from(const RankedItems<T>& items, int64_t i) {
  const int64_t place = items.place(i);
  double top = -std::numeric_limits<double>::infinity();
  for (int64_t j = 0; j < items.size; ++j) {
    const double score = items.scores[j];
    if (items.place(j) >= place && (score > top || score != score)) top = score;
  }
  double sum = 0;
  for (int64_t j = 0; j < items.size; ++j) {
    if (items.place(j) >= place) sum += std::exp(static_cast<double>(items.scores[j]) - top);
  }
  return top + std::log(sum);
}

/// Sum over ranked items of log_sum_from(i) - score i; a tie's items share their sum (Breslow).
/// `grad` [K] = weight * d loss / d score. `log_sums` [K] is scratch. -> loss, not weighted.
template <typename T>
HONE_HD double plackett_luce(const RankedItems<T>& items, double weight, double* log_sums,
                             T* grad) {
  double loss = 0;
  for (int64_t i = 0; i < items.size; ++i) {
    if (!items.ranked(i)) continue;
    log_sums[i] = log_sum_from(items, i);
    loss += log_sums[i] - items.scores[i];
  }
  for (int64_t j = 0; j < items.size; ++j) {
    double derivative = items.ranked(j) ? -1 : 0;
    for (int64_t i = 0; i < items.size; ++i) {
      if (items.ranked(i) && items.place(i) <= items.place(j)) {
        derivative += std::exp(static_cast<double>(items.scores[j]) - log_sums[i]);
      }
    }
    grad[j] = static_cast<T>(weight * derivative);
  }
  return loss;
}

/// Share of item i against item j: 1, 0 or 0.5.
template <typename T>
HONE_HD double share(const RankedItems<T>& items, int64_t i, int64_t j) {
  const int64_t a = items.place(i), b = items.place(j);
  return a < b ? 1 : (a > b ? 0 : 0.5);
}

/// Mean of preference_nll over the pairs with at least one ranked item (all C(K,2) of a complete
/// ranking); `grad` as above. No such pair: 0.
template <typename T>
HONE_HD double mean_of_pairs(const RankedItems<T>& items, double weight,
                             const PreferenceParams<double>& p, T* grad) {
  int64_t pairs = 0;
  for (int64_t i = 0; i < items.size; ++i) {
    for (int64_t j = i + 1; j < items.size; ++j) pairs += items.ranked(i) || items.ranked(j);
  }
  const double scale = pairs > 0 ? 1.0 / static_cast<double>(pairs) : 0.0;
  double loss = 0;
  for (int64_t i = 0; i < items.size; ++i) {
    double derivative = 0;
    for (int64_t j = 0; j < items.size; ++j) {
      if (i == j || !(items.ranked(i) || items.ranked(j))) continue;
      const auto nll = preference_nll(static_cast<double>(items.scores[i]) - items.scores[j],
                                      share(items, i, j), p);
      derivative += nll.derivative;  // the loss of a pair is the same from both sides
      if (i < j) loss += nll.value;
    }
    grad[i] = static_cast<T>(weight * scale * derivative);
  }
  return loss * scale;
}

}  // namespace hone::kernels::math
