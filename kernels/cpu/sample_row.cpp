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
#include "kernels/cpu/head_rows-inl.h"
#include "kernels/cpu/sample_filters-inl.h"
#include "kernels/cpu/vector_exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {
namespace {

struct Sums {
  double raw = 0;       // of e^(logit - top)
  double sum = 0;       // of the weights e^((logit - top) / temperature)
  double weighted = 0;  // of weight * exponent
};

/// Reads logits [begin, end) of the row once. kStore leaves their weights, padded with zeros to
/// whole vectors. kRaw: inverse is not 1, so that the raw sum is another.
template <bool kRaw, bool kStore, typename T>
Sums read_logits(const T* logits, int64_t size, int64_t begin, int64_t end, T top, T inverse,
                 T* weights) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  const auto v_top = hn::Set(d, top), v_inverse = hn::Set(d, inverse);
  auto raw = hn::Zero(d), sum = raw, weighted = raw;
  for (int64_t j = begin; j < end; j += lanes) {
    // The last vector is read from a copy, so that nothing behind the row is touched.
    T last[hn::MaxLanes(d)];
    const T* from = logits + j;
    if (j + lanes > size) {
      std::fill(last, last + lanes, -std::numeric_limits<T>::infinity());
      std::copy(from, logits + size, last);
      from = last;
    }
    const auto above = hn::Sub(hn::LoadU(d, from), v_top);
    const auto t = hn::Mul(above, v_inverse);
    const auto e = exp_below_88(d, t);
    if (kStore) hn::StoreU(e, d, weights + (j - begin));
    if (kRaw) raw = hn::Add(raw, exp_below_88(d, above));
    sum = hn::Add(sum, e);
    // 0 * -inf would be NaN where a logit is -inf.
    weighted = hn::MulAdd(e, hn::Max(t, hn::Set(d, T(-1000))), weighted);
  }
  Sums out;
  out.sum = sum_in_double(d, sum);
  out.raw = kRaw ? sum_in_double(d, raw) : out.sum;
  out.weighted = sum_in_double(d, weighted);
  return out;
}

/// The whole row; `blocks` gets the sum of each block's weights.
template <bool kRaw, bool kStore, typename T>
Sums read_row(const T* logits, int64_t size, T top, T inverse, T* weights,
              std::vector<double>& blocks) {
  Sums total;
  blocks.clear();
  for (int64_t j = 0; j < size; j += kBlock) {
    const Sums part = read_logits<kRaw, kStore>(logits, size, j, std::min(size, j + kBlock), top,
                                                inverse, kStore ? weights + j : nullptr);
    blocks.push_back(part.sum);
    total.raw += part.raw;
    total.sum += part.sum;
    total.weighted += part.weighted;
  }
  return total;
}

struct Place {
  int64_t block;
  double below;  // the weight of the blocks before it
};

/// The block of the lowest id whose cumulative weight exceeds `target`; rounding may leave the
/// target at the very end, then the last block that weighs anything.
Place find_block(const std::vector<double>& blocks, double target) {
  double below = 0;
  Place last{0, 0};
  for (size_t block = 0; block < blocks.size(); ++block) {
    if (blocks[block] > 0) last = {static_cast<int64_t>(block), below};
    if (below + blocks[block] > target) return {static_cast<int64_t>(block), below};
    below += blocks[block];
  }
  return last;
}

/// The same inside a block.
template <typename T>
int64_t find_weight(const T* weights, int64_t size, double below, double target) {
  int64_t found = 0;
  for (int64_t j = 0; j < size; ++j) {
    if (!(weights[j] > T(0))) continue;
    found = j;
    below += weights[j];
    if (below > target) break;
  }
  return found;
}

template <typename T>
SampledRow sample(const T* logits, int64_t size, double uniform, const SamplingRule& rule,
                  SampleScratch<T>& scratch) {
  const T top = row_max(logits, size);
  const bool greedy = rule.temperature == 0, filters = rule.filters() && !greedy;
  const double inverse = greedy ? 1.0 : 1.0 / rule.temperature;
  const int64_t row = padded<T>(size);
  // Without filters no weight is kept: those of the block that is drawn from are made again. With
  // them there is room for a second row and a vector.
  scratch.weights.resize(static_cast<size_t>(filters ? 2 * row + padded<T>(1) : padded<T>(kBlock)));
  T* weights = scratch.weights.data();
  const auto read = [&](auto raw, auto store) {
    return read_row<raw, store>(logits, size, top, static_cast<T>(inverse), weights,
                                scratch.blocks);
  };
  using Yes = std::true_type;
  using No = std::false_type;
  const bool raw_differs = inverse != 1.0;
  const Sums all = filters ? (raw_differs ? read(Yes(), Yes()) : read(No(), Yes()))
                           : (raw_differs ? read(Yes(), No()) : read(No(), No()));
  SampledRow out{0, 0, 0, 0, false};
  out.valid = std::isfinite(all.raw);
  if (!out.valid) return out;
  if (greedy) {
    out.token = std::find(logits, logits + size, top) - logits;
    out.raw_logprob = -std::log(all.raw);
    return out;
  }
  out.entropy = std::log(all.sum) - all.weighted / all.sum;
  double sum = all.sum;
  if (filters) sum = filter(weights, size, row, rule, weights + row, scratch.blocks);
  const double target = uniform * sum;
  const Place place = find_block(scratch.blocks, target);
  const int64_t first = place.block * kBlock, last = std::min(size, first + kBlock);
  if (!filters) {
    read_logits<false, true>(logits, size, first, last, top, static_cast<T>(inverse), weights);
  }
  out.token =
      first + find_weight(filters ? weights + first : weights, last - first, place.below, target);
  const double above = static_cast<double>(logits[out.token]) - static_cast<double>(top);
  out.logprob = above * inverse - std::log(sum);
  out.raw_logprob = above - std::log(all.raw);
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
