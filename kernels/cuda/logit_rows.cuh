#pragma once

// A row of logits as sampling walks it: vectors in the order of the ids, cut into runs of vectors,
// one a warp.

#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/cuda/softmax_sums.cuh"
#include "kernels/device/collectives.h"
#include "kernels/math/bfloat16.h"

namespace hone::kernels::cuda {

/// log2(e) / temperature, as kernels take it: a division in double there delays the first load.
template <typename T>
math::Compute<T> sampling_scale(double temperature) {
  return static_cast<math::Compute<T>>(kLog2E<double> / (temperature == 0 ? 1.0 : temperature));
}

/// Vectors [begin, end).
struct Run {
  int begin, end;

  /// The i-th of `pieces` runs of one length, the last ones shorter or empty.
  HONE_DEVICE Run piece(int i, int pieces) const {
    const int each = (end - begin + pieces - 1) / pieces;
    const int first = begin + i * each < end ? begin + i * each : end;
    return {first, first + each < end ? first + each : end};
  }
};

constexpr int64_t kMaxSampledVocabulary = 1 << 30;

template <typename T>
struct LogitRow {
  using C = math::Compute<T>;
  static constexpr int kWidth = device::kVectorWidth<T>;

  using Stored = device::Vector<T, kWidth>;

  const T* logits;
  int size;
  int whole_vectors;  // that one load takes

  HONE_DEVICE LogitRow(const T* row, int64_t n)
      : logits(row),
        size(static_cast<int>(n)),
        whole_vectors(device::is_aligned<kWidth>(row) ? size / kWidth : 0) {}

  HONE_DEVICE Run whole() const { return {0, (size + kWidth - 1) / kWidth}; }

  /// As stored. Beyond the row: -inf, which weighs nothing.
  HONE_DEVICE Stored load(int vector) const {
    if (vector < whole_vectors) return device::load_vector<kWidth>(logits, vector * kWidth);
    Stored v;
    HONE_UNROLL
    for (int k = 0; k < kWidth; ++k) {
      if (vector * kWidth + k < size) {
        v[k] = logits[vector * kWidth + k];
      } else {
        math::narrow(-std::numeric_limits<C>::infinity(), v[k]);
      }
    }
    return v;
  }
};

/// visit(vector index, stored vector) for every kStep-th vector of a run from `first` of it on.
/// kLoads loads are on their way at once; with kAhead also while the ones before are looked at, for
/// kernels with more to do than to wait.
template <int kStep, int kLoads, bool kAhead, typename T, typename Visit>
HONE_DEVICE void walk(const LogitRow<T>& row, const Run& run, int first, const Visit& visit) {
  constexpr int kWidth = LogitRow<T>::kWidth;
  const int whole = run.end < row.whole_vectors ? run.end : row.whole_vectors;
  typename LogitRow<T>::Stored stored[kLoads], next[kLoads];
  // Past the end the last vector once more: a load that may not be would be waited for at once.
  const auto load = [&](typename LogitRow<T>::Stored(&to)[kLoads], int from) {
    HONE_UNROLL
    for (int i = 0; i < kLoads; ++i) {
      const int at = from + i * kStep < whole ? from + i * kStep : whole - 1;
      to[i] = device::load_vector<kWidth>(row.logits, at * kWidth);
    }
  };
  int v = run.begin + first;
  if (kAhead && v < whole) load(next, v);
  for (; v < whole; v += kLoads * kStep) {
    if (kAhead) {
      HONE_UNROLL
      for (int i = 0; i < kLoads; ++i) {
        stored[i] = next[i];
        device::forget_values(stored[i]);
      }
      load(next, v + kLoads * kStep);
    } else {
      load(stored, v);
    }
    HONE_UNROLL
    for (int i = 0; i < kLoads; ++i) {
      const int at = v + i * kStep;
      if (at < whole) visit(at, stored[i]);
    }
  }
  // Unaligned rows, and the last vector of an odd one; the loop may have gone on by a batch.
  v = whole > run.begin ? whole + (v - whole) % kStep : v;
  for (; v < run.end; v += kStep) visit(v, row.load(v));
}

/// The same by a warp.
template <typename T, typename Visit>
HONE_DEVICE void walk(const LogitRow<T>& row, const Run& run, const Visit& visit) {
  walk<device::kWarp, 4, true>(row, run, device::lane(), visit);
}

/// The logits of a stored vector.
template <bool kRaw, typename Stored, typename C>
HONE_DEVICE void add_stored(SoftmaxSums<C>& sums, const Stored& stored, C scale) {
  C x[sizeof(stored.value) / sizeof(stored.value[0])];
  HONE_UNROLL
  for (int k = 0; k < static_cast<int>(sizeof(x) / sizeof(C)); ++k) x[k] = math::widen(stored[k]);
  add_logits<kRaw>(sums, x, scale);
}

/// A lane's sums of a run's logits; see(vector index, stored vector) besides.
template <bool kRaw, typename T, typename See, typename C = math::Compute<T>>
HONE_DEVICE SoftmaxSums<C> sums_of_run(const LogitRow<T>& row, const Run& run, C scale,
                                       const See& see) {
  SoftmaxSums<C> sums;
  walk(row, run, [&](int v, const typename LogitRow<T>::Stored& stored) {
    see(v, stored);
    add_stored<kRaw>(sums, stored, scale);
  });
  return sums;
}

/// What a warp makes of the sums of the row's parts, of which lane w has the w-th.
template <typename C>
struct RowTotals {
  double total, raw, weighted;
  C top;
};

/// In every lane; `weight`: the lane's own part of the total, `share`: what its sums are multiplied
/// by. Greedy: a weight for the parts with the largest logit.
template <typename C>
HONE_DEVICE RowTotals<C> totals_of_parts(const SoftmaxSums<C>& s, C scale, bool greedy,
                                         double& weight, C& share) {
  const C top = device::warp_all_reduce(s.top, device::Larger{});
  const C shift = softmax_base(s.top, scale) - softmax_base(top, scale);
  double raw = 0, weighted = 0;
  share = 0;
  if (s.sum != C(0)) {
    share = device::exp2_approximate(shift);
    raw =
        static_cast<double>(softmax_weight(s.top, softmax_base(top, kLog2E<C>), kLog2E<C>)) * s.raw;
    if (share > C(0)) weighted = static_cast<double>(share) * (s.weighted + shift * s.sum);
    if (greedy) share = s.top == top ? C(1) : C(0);
  }
  weight = static_cast<double>(share) * s.sum;
  return {device::warp_all_reduce(weight, device::Add{}),
          device::warp_all_reduce(raw, device::Add{}),
          device::warp_all_reduce(weighted, device::Add{}), top};
}

/// Where the cumulative weights of a warp's lanes exceed a target.
template <typename W>
struct Place {
  int lane;  // the lowest whose weights reach beyond `target`, or, as the rounding of a scan may
             // leave none, the last that has any; -1: none has
  W below;   // the weight of the lanes before it
  W total;
};

/// In every lane. W: double or uint64_t.
template <typename W>
HONE_DEVICE Place<W> place_among_lanes(W weight, W target) {
  const W through = device::warp_inclusive_scan(weight, device::Add{});
  W below = device::shuffle_up(through, 1);
  if (device::lane() == 0) below = 0;
  const int mine = weight > W(0) && below <= target ? device::lane() : -1;
  const int chosen = device::warp_all_reduce(mine, device::Larger{});
  return {chosen, device::shuffle(below, chosen < 0 ? 0 : chosen),
          device::shuffle(through, device::kWarp - 1)};
}

/// The lowest id of the run whose cumulative weight exceeds `target`, in every lane of a warp.
/// weigh(x, rank): the weight of a logit, where `rank` counts the ties before it and goes on with
/// it; weigh.tie(x): is it one?
template <typename W, typename T, typename Weigh>
HONE_DEVICE int pick(const LogitRow<T>& row, const Run& run, const Weigh& weigh, W target) {
  constexpr int kWidth = LogitRow<T>::kWidth;
  int vector = run.begin, rank_at = 0, rank = 0;
  W below_vector = 0, below = 0;
  for (int first = run.begin; first < run.end && below <= target; first += device::kWarp) {
    const int v = first + device::lane();
    // Beyond the run as beyond the row: nothing.
    const auto stored = row.load(v < run.end ? v : row.whole().end);
    int own_rank = rank;
    if constexpr (Weigh::kTies) {
      int ties = 0;
      for (int k = 0; k < kWidth; ++k) ties += weigh.tie(stored[k]) ? 1 : 0;
      const int through = device::warp_inclusive_scan(ties, device::Add{});
      own_rank += through - ties;
      rank += device::shuffle(through, device::kWarp - 1);
    }
    W own = 0;
    int advanced = own_rank;
    HONE_UNROLL
    for (int k = 0; k < kWidth; ++k) own += weigh(stored[k], advanced);
    const Place<W> place = place_among_lanes(own, static_cast<W>(target - below));
    if (place.lane >= 0) {
      vector = first + place.lane;
      below_vector = below + place.below;
      rank_at = device::shuffle(own_rank, place.lane);
    }
    below += place.total;
  }
  const auto stored = row.load(vector);
  int chosen = -1;
  HONE_UNROLL
  for (int k = 0; k < kWidth; ++k) {
    const W weight = weigh(stored[k], rank_at);
    if (weight > W(0) && (chosen < 0 || below_vector <= target)) chosen = vector * kWidth + k;
    below_vector += weight;
  }
  return chosen < 0 ? 0 : chosen;
}

/// Writes what is known of a row once its token is. `kept_weight`: what the token's weight is a
/// share of.
template <typename T, typename Args, typename C = math::Compute<T>>
HONE_DEVICE void store_drawn(const Args& a, int64_t r, const LogitRow<T>& row,
                             const RowTotals<C>& totals, C scale, int token, double kept_weight) {
  const bool greedy = a.temperature == 0;
  // Else a NaN, a +inf or nothing finite is among the logits.
  const bool valid = totals.raw > 0 && totals.raw < INFINITY;
  if (!valid) token = 0;
  const C x = math::widen(row.logits[token]);
  const auto logprob = [&](C of_scale, double sum) {
    const C t = std::fma(x, of_scale, -softmax_base(totals.top, of_scale));
    return t * kLn2<C> - std::log(static_cast<C>(sum));
  };
  const auto put = [&](C* out, C value) { out[r] = valid ? value : static_cast<C>(NAN); };
  const C total = static_cast<C>(totals.total);
  a.tokens[r] = token;
  put(a.logprobs, greedy ? C(0) : logprob(scale, kept_weight));
  put(a.raw_logprobs, logprob(kLog2E<C>, totals.raw));
  put(a.entropy,
      greedy ? C(0) : std::log(total) - kLn2<C> * static_cast<C>(totals.weighted) / total);
}

}  // namespace hone::kernels::cuda
