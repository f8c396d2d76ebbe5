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

/// Vectors [begin, end).
struct Run {
  int64_t begin, end;

  /// The i-th of `pieces` runs of one length, the last ones shorter or empty.
  HONE_DEVICE Run piece(int64_t i, int64_t pieces) const {
    const int64_t each = (end - begin + pieces - 1) / pieces;
    const int64_t first = begin + i * each < end ? begin + i * each : end;
    return {first, first + each < end ? first + each : end};
  }
};

template <typename T>
struct LogitRow {
  using C = math::Compute<T>;
  static constexpr int kWidth = device::kVectorWidth<T>;

  using Stored = device::Vector<T, kWidth>;

  const T* logits;
  int64_t size;
  int64_t whole_vectors;  // that one load takes

  HONE_DEVICE LogitRow(const T* row, int64_t n)
      : logits(row), size(n), whole_vectors(device::is_aligned<kWidth>(row) ? n / kWidth : 0) {}

  HONE_DEVICE Run whole() const { return {0, (size + kWidth - 1) / kWidth}; }

  /// As stored. Beyond the row: -inf, which weighs nothing.
  HONE_DEVICE Stored load(int64_t vector) const {
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

/// Sums of a run's logits, in lane 0 of the warp that walks it. Four loads of a lane are on their
/// way at once.
template <bool kRaw, typename T, typename C = math::Compute<T>>
HONE_DEVICE SoftmaxSums<C> sums_of_run(const LogitRow<T>& row, const Run& run, C scale) {
  constexpr int kLoads = 4, kWidth = LogitRow<T>::kWidth;
  SoftmaxSums<C> sums;
  const auto add = [&](const typename LogitRow<T>::Stored& stored) {
    C x[kWidth];
    HONE_UNROLL
    for (int k = 0; k < kWidth; ++k) x[k] = math::widen(stored[k]);
    add_logits<kRaw>(sums, x, scale);
  };
  const int64_t whole = run.end < row.whole_vectors ? run.end : row.whole_vectors;
  int64_t v = run.begin + device::lane();
  for (; v < whole; v += kLoads * device::kWarp) {
    typename LogitRow<T>::Stored stored[kLoads];
    HONE_UNROLL
    for (int load = 0; load < kLoads; ++load) {
      const int64_t at = v + load * device::kWarp;
      if (at < whole) stored[load] = device::load_vector<kWidth>(row.logits, at * kWidth);
    }
    HONE_UNROLL
    for (int load = 0; load < kLoads; ++load) {
      if (v + load * device::kWarp < whole) add(stored[load]);
    }
  }
  // Unaligned rows, and the last vector of an odd one.
  const int64_t rest = run.begin > whole ? run.begin : whole;
  for (v = rest + device::lane(); v < run.end; v += device::kWarp) add(row.load(v));
  return device::warp_reduce(sums, MergeSoftmax<kRaw, C>{scale});
}

/// Sum of the run's weights in lane 0; a lane's own in C.
template <typename T, typename Weight>
HONE_DEVICE double weight_of_run(const LogitRow<T>& row, const Run& run, const Weight& weight) {
  math::Compute<T> own = 0;
  for (int64_t v = run.begin + device::lane(); v < run.end; v += device::kWarp) {
    const auto x = row.load(v);
    HONE_UNROLL
    for (int k = 0; k < LogitRow<T>::kWidth; ++k) own += weight(math::widen(x[k]));
  }
  return device::warp_reduce(static_cast<double>(own), device::Add{});
}

/// Where the cumulative weights of a warp's lanes exceed a target.
struct Place {
  int lane;      // the lowest lane whose weights reach beyond `target`, or the last that has any;
                 // -1: none has
  double below;  // the weight of the lanes before it
  double total;
};

/// In every lane.
HONE_DEVICE Place place_among_lanes(double weight, double target) {
  const double through = device::warp_inclusive_scan(weight, device::Add{});
  double below = device::shuffle_up(through, 1);
  if (device::lane() == 0) below = 0;
  const int mine = weight > 0 && below <= target ? device::lane() : -1;
  const int chosen = device::warp_all_reduce(mine, device::Larger{});
  return {chosen, device::shuffle(below, chosen < 0 ? 0 : chosen),
          device::shuffle(through, device::kWarp - 1)};
}

/// The lowest id of the run whose cumulative weight exceeds `target`, in every lane of a warp. The
/// rounding of a scan may leave none: then the last id that weighs anything.
template <typename T, typename Weight>
HONE_DEVICE int64_t pick(const LogitRow<T>& row, const Run& run, const Weight& weight,
                         double target) {
  constexpr int kWidth = LogitRow<T>::kWidth;
  int64_t best = run.begin * kWidth;
  double below = 0;
  for (int64_t first = run.begin; first < run.end; first += device::kWarp) {
    const int64_t v = first + device::lane();
    double of[kWidth], own = 0;
    HONE_UNROLL
    for (int k = 0; k < kWidth; ++k) of[k] = 0;
    if (v < run.end) {
      const auto x = row.load(v);
      HONE_UNROLL
      for (int k = 0; k < kWidth; ++k) own += of[k] = weight(math::widen(x[k]));
    }
    const Place place = place_among_lanes(own, target - below);
    int64_t mine = -1;
    if (place.lane == device::lane()) {
      double reached = below + place.below;
      HONE_UNROLL
      for (int k = 0; k < kWidth; ++k) {
        if (of[k] > 0 && (mine < 0 || reached <= target)) mine = v * kWidth + k;
        reached += of[k];
      }
    }
    const int64_t last = device::warp_all_reduce(mine, device::Larger{});
    if (last >= 0) best = last;
    below += place.total;
  }
  return best;
}

}  // namespace hone::kernels::cuda
