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
};

/// `uniform` in [0, 1) picks the token: the lowest id whose cumulative weight exceeds it.
template <typename T>
SampledRow sample_row(const T* logits, int64_t size, double uniform, const SamplingRule& rule,
                      SampleScratch<T>& scratch);

}  // namespace hone::kernels
