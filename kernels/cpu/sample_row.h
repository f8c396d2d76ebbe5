#pragma once

// One row of sampling on the CPU: softmax, filters and inverse CDF over a row that stays in cache.

#include <cstdint>
#include <vector>

namespace hone::kernels {

struct SamplingRule {
  double temperature;  // 0 = greedy
  int64_t top_k;       // 0 = off
  double top_p, min_p;

  bool filters() const { return top_k > 0 || top_p < 1.0 || min_p > 0.0; }
};

struct SampledRow {
  int64_t token;
  /// Under the distribution sampled from; under softmax(logits).
  double logprob, raw_logprob;
  double entropy;  // of softmax(logits / temperature)
  bool valid;      // false: a NaN, a +inf or nothing finite among the logits
};

template <typename T>
struct SampleScratch {
  std::vector<T> weights;      // e^((logit - max) / temperature), 0 where filtered out
  std::vector<double> blocks;  // sums of the weights
  std::vector<T> kept;         // logits that are edited for a while
};

/// What is changed about a row's logits before it is sampled from: the repetition penalty of Keskar
/// et al. 2019 (as transformers applies it: a negative logit is multiplied, any other divided, once
/// for each distinct id), then ids that may not be drawn.
struct RowEdits {
  double penalty = 1.0;
  const int32_t* seen = nullptr;  // distinct ids
  int64_t seen_count = 0;
  const int64_t* forbidden = nullptr;  // distinct ids
  int64_t forbidden_count = 0;

  bool any() const { return (penalty != 1.0 && seen_count > 0) || forbidden_count > 0; }
};

template <typename T>
T penalized(T logit, T penalty) {
  return logit < T(0) ? logit * penalty : logit / penalty;
}

/// `uniform` in [0, 1) picks the token: the lowest id whose cumulative weight exceeds it.
template <typename T>
SampledRow sample_row(const T* logits, int64_t size, double uniform, const SamplingRule& rule,
                      SampleScratch<T>& scratch);

/// sample_row of the edited row. raw_logprob stays the model's own: under softmax of the logits as
/// they came. Afterwards the logits are as they were.
template <typename T>
SampledRow sample_edited_row(T* logits, int64_t size, double uniform, const SamplingRule& rule,
                             const RowEdits& edits, SampleScratch<T>& scratch);

}  // namespace hone::kernels
