#include "kernels/cpu/sample_row.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/sample_row.cpp"
#include "kernels/cpu/highway_targets.h"
// After the targets.
#include "hwy/foreach_target.h"
// After foreach_target.
#include "hwy/highway.h"
#include "kernels/cpu/vector_exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {
namespace {

// Weights summed in T before they join a double; also the step of the search for the token.
constexpr int64_t kBlock = 256;

/// Rows are padded to whole vectors with this many elements that weigh nothing.
template <typename T>
int64_t padded(int64_t size) {
  const int64_t lanes = hn::Lanes(hn::ScalableTag<T>());
  return (size + lanes - 1) / lanes * lanes;
}

template <typename T>
T max_of(const T* x, int64_t size) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  auto top0 = hn::Set(d, x[0]), top1 = top0;
  int64_t j = 0;
  for (; j + 2 * lanes <= size; j += 2 * lanes) {
    top0 = hn::Max(top0, hn::LoadU(d, x + j));
    top1 = hn::Max(top1, hn::LoadU(d, x + j + lanes));
  }
  T top = hn::GetLane(hn::MaxOfLanes(d, hn::Max(top0, top1)));
  for (; j < size; ++j) top = x[j] > top ? x[j] : top;
  return top;
}

/// Sum of `weight(vector)` over a padded row, by blocks in double.
template <typename T, typename Weight>
HWY_INLINE double sum_of(const T* x, int64_t size, const Weight& weight) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  double total = 0;
  for (int64_t j = 0; j < size;) {
    const int64_t end = std::min(size, j + kBlock);
    auto sum = hn::Zero(d);
    for (; j < end; j += lanes) sum = hn::Add(sum, weight(d, hn::LoadU(d, x + j)));
    total += sum_in_double(d, sum);
  }
  return total;
}

template <typename T>
void keep_at_least(T* weights, int64_t size, T least) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  const auto bound = hn::Set(d, least);
  for (int64_t j = 0; j < size; j += lanes) {
    const auto w = hn::LoadU(d, weights + j);
    hn::StoreU(hn::IfThenElseZero(hn::Ge(w, bound), w), d, weights + j);
  }
}

/// The smallest float x in [0, 1] for which `enough(x)` holds; enough is false, then true. Floats
/// that are not negative order as their bits do, so this is a bisection over integers.
template <typename T, typename Enough>
HWY_INLINE T smallest(const Enough& enough) {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  const auto value = [](Bits bits) {
    T x;
    hwy::CopyBytes<sizeof(T)>(&bits, &x);
    return x;
  };
  const T one = 1;
  Bits low = 0, high;
  hwy::CopyBytes<sizeof(T)>(&one, &high);
  while (low < high) {
    const Bits middle = low + (high - low) / 2;
    if (enough(value(middle))) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return value(low);
}

/// Keeps the k largest weights, and all that tie with the k-th.
template <typename T>
void filter_top_k(T* weights, int64_t size, int64_t k) {
  const T above = smallest<T>([&](T x) {
    const hn::ScalableTag<T> d;
    const int64_t lanes = hn::Lanes(d);
    const auto bound = hn::Set(d, x);
    int64_t count = 0;
    for (int64_t j = 0; j < size; j += lanes) {
      count += hn::CountTrue(d, hn::Gt(hn::LoadU(d, weights + j), bound));
    }
    return count < k;
  });
  keep_at_least(weights, size, above);  // fewer than k are larger, so the k-th equals it
}

/// Keeps the largest weights until they reach p of the sum; the one that crosses stays, ties by id.
template <typename T>
void filter_top_p(T* weights, int64_t size, double p) {
  const double goal = p * sum_of(weights, size, [](auto, auto w) { return w; });
  const auto sum_above = [&](T x) {
    return sum_of(weights, size,
                  [x](auto d, auto w) { return hn::IfThenElseZero(hn::Gt(w, hn::Set(d, x)), w); });
  };
  const T crossing = smallest<T>([&](T x) { return sum_above(x) < goal; });
  double before = sum_above(crossing);
  for (int64_t j = 0; j < size; ++j) {
    if (weights[j] < crossing) {
      weights[j] = T(0);
    } else if (weights[j] == crossing) {
      if (before >= goal) weights[j] = T(0);
      before += crossing;
    }
  }
}

/// Fills the padded weights and returns their sum; `weighted` gets the sum of weight * exponent.
template <typename T>
double fill_weights(const T* logits, int64_t size, T top, T inverse, T* weights, double& weighted) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  const auto v_top = hn::Set(d, top), v_inverse = hn::Set(d, inverse);
  double sum = 0;
  weighted = 0;
  for (int64_t j = 0; j < size;) {
    const int64_t end = std::min(size, j + kBlock);
    auto part = hn::Zero(d), weighted_part = hn::Zero(d);
    for (; j < end; j += lanes) {
      // The last vector is read from a copy, so that nothing behind the row is touched.
      T last[hn::MaxLanes(d)];
      const T* from = logits + j;
      if (j + lanes > size) {
        std::fill(last, last + lanes, -std::numeric_limits<T>::infinity());
        std::copy(from, logits + size, last);
        from = last;
      }
      const auto t = hn::Mul(hn::Sub(hn::LoadU(d, from), v_top), v_inverse);
      const auto e = exp_below_88(d, t);
      hn::StoreU(e, d, weights + j);
      part = hn::Add(part, e);
      // 0 * -inf would be NaN where a logit is -inf.
      weighted_part = hn::MulAdd(e, hn::Max(t, hn::Set(d, T(-1000))), weighted_part);
    }
    sum += sum_in_double(d, part);
    weighted += sum_in_double(d, weighted_part);
  }
  return sum;
}

/// Lowest id whose cumulative weight exceeds `target`; rounding may leave the target at the very
/// end, then the last id that weighs anything.
template <typename T>
int64_t pick(const T* weights, int64_t size, const std::vector<double>& blocks, double target) {
  double below = 0;
  int64_t block = 0, last_block = 0;
  const int64_t count = static_cast<int64_t>(blocks.size());
  for (; block < count; ++block) {
    if (blocks[block] > 0) last_block = block;
    if (below + blocks[block] > target) break;
    below += blocks[block];
  }
  if (block == count) block = last_block;
  int64_t token = 0;
  for (int64_t j = block * kBlock; j < std::min(size, (block + 1) * kBlock); ++j) {
    if (!(weights[j] > T(0))) continue;
    token = j;
    below += weights[j];
    if (below > target) break;
  }
  return token;
}

template <typename T>
SampledRow sample(const T* logits, int64_t size, double uniform, const SamplingRule& rule,
                  SampleScratch<T>& scratch) {
  const T top = max_of(logits, size);
  const int64_t row = padded<T>(size);
  scratch.weights.resize(row);
  T* weights = scratch.weights.data();
  double weighted = 0;
  SampledRow out{0, 0, 0, 0, false};
  const double raw_sum = fill_weights(logits, size, top, T(1), weights, weighted);
  out.valid = std::isfinite(raw_sum);
  if (!out.valid) return out;
  if (rule.temperature == 0) {
    out.token = std::find(logits, logits + size, top) - logits;
    out.raw_logprob = -std::log(raw_sum);
    return out;
  }
  const double inverse = 1.0 / rule.temperature;
  double sum = raw_sum;
  if (rule.temperature != 1.0) {
    sum = fill_weights(logits, size, top, static_cast<T>(inverse), weights, weighted);
  }
  out.entropy = std::log(sum) - weighted / sum;
  if (rule.top_k > 0 && rule.top_k < size) filter_top_k(weights, row, rule.top_k);
  if (rule.top_p < 1.0) filter_top_p(weights, row, rule.top_p);
  // The largest weight is 1 and every filter keeps it.
  if (rule.min_p > 0.0) keep_at_least(weights, row, static_cast<T>(rule.min_p));
  scratch.blocks.clear();
  sum = 0;
  for (int64_t j = 0; j < row; j += kBlock) {
    scratch.blocks.push_back(
        sum_of(weights + j, std::min(kBlock, row - j), [](auto, auto w) { return w; }));
    sum += scratch.blocks.back();
  }
  out.token = pick(weights, size, scratch.blocks, uniform * sum);
  const double raw = static_cast<double>(logits[out.token]) - static_cast<double>(top);
  out.logprob = raw * inverse - std::log(sum);
  out.raw_logprob = raw - std::log(raw_sum);
  return out;
}

SampledRow sample_f32(const float* logits, int64_t size, double uniform, const SamplingRule& rule,
                      SampleScratch<float>& scratch) {
  return sample(logits, size, uniform, rule, scratch);
}
SampledRow sample_f64(const double* logits, int64_t size, double uniform, const SamplingRule& rule,
                      SampleScratch<double>& scratch) {
  return sample(logits, size, uniform, rule, scratch);
}

}  // namespace
}  // namespace hone::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include "kernels/cpu/float_dispatch.h"

namespace hone::kernels {

HONE_EXPORT(sample);

template <typename T>
SampledRow sample_row(const T* logits, int64_t size, double uniform, const SamplingRule& rule,
                      SampleScratch<T>& scratch) {
  return HONE_DISPATCH(T, sample)(logits, size, uniform, rule, scratch);
}

template <typename T>
SampledRow sample_edited_row(T* logits, int64_t size, double uniform, const SamplingRule& rule,
                             const RowEdits& edits, SampleScratch<T>& scratch) {
  if (!edits.any()) return sample_row<T>(logits, size, uniform, rule, scratch);
  // A greedy draw says what the sum of the row is: log softmax of its largest logit.
  const SampledRow raw = sample_row<T>(logits, size, 0.0, {0.0, 0, 1.0, 0.0}, scratch);
  if (!raw.valid) return raw;
  const double log_sum = static_cast<double>(logits[raw.token]) - raw.raw_logprob;
  const int64_t seen = edits.penalty != 1.0 ? edits.seen_count : 0;
  scratch.kept.resize(static_cast<size_t>(seen + edits.forbidden_count));
  T* kept = scratch.kept.data();
  for (int64_t i = 0; i < seen; ++i) {
    T& logit = logits[edits.seen[i]];
    kept[i] = logit;
    logit = penalized(logit, static_cast<T>(edits.penalty));
  }
  for (int64_t i = 0; i < edits.forbidden_count; ++i) {
    T& logit = logits[edits.forbidden[i]];
    kept[seen + i] = logit;
    logit = -std::numeric_limits<T>::infinity();
  }
  SampledRow drawn = sample_row<T>(logits, size, uniform, rule, scratch);
  for (int64_t i = edits.forbidden_count - 1; i >= 0; --i)
    logits[edits.forbidden[i]] = kept[seen + i];
  for (int64_t i = seen - 1; i >= 0; --i) logits[edits.seen[i]] = kept[i];
  if (drawn.valid) drawn.raw_logprob = static_cast<double>(logits[drawn.token]) - log_sum;
  return drawn;
}

template SampledRow sample_edited_row(float*, int64_t, double, const SamplingRule&, const RowEdits&,
                                      SampleScratch<float>&);
template SampledRow sample_edited_row(double*, int64_t, double, const SamplingRule&,
                                      const RowEdits&, SampleScratch<double>&);

template SampledRow sample_row(const float*, int64_t, double, const SamplingRule&,
                               SampleScratch<float>&);
template SampledRow sample_row(const double*, int64_t, double, const SamplingRule&,
                               SampleScratch<double>&);

}  // namespace hone::kernels

#endif  // HWY_ONCE
