// Sampling with top-k, top-p and min-p, in this order and with the CPU's ties: top-k keeps all that
// tie with the k-th, top-p the lowest ids. One block a row: the row is read from memory once and
// what fits stays in shared memory (128 KB of it); the searches (radix_search.cuh) and the draw
// walk that copy and, behind it, the second-level cache. Weights are integers in units of 2^-40 of
// the largest, so that every sum is exact: which tokens are kept does not depend on an order of
// adding.
//
// 512 threads, one block an SM. Any V.

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cuda/logit_rows.cuh"
#include "kernels/cuda/model_launchers.h"
#include "kernels/cuda/radix_search.cuh"
#include "kernels/math/philox.h"

namespace hone::kernels::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / device::kWarp;
static_assert(kWarps <= device::kWarp);     // a lane a part below
constexpr int64_t kHeldBytes = 128 * 1024;  // with what a search needs no more than sm_80 has
constexpr int kAll = std::numeric_limits<int>::max();

/// Of a sum over 2^22 tokens: below 2^63.
constexpr double kUnits = 0x1p40;

template <typename C>
HONE_DEVICE uint64_t units(C weight) {
  return weight > C(0) ? static_cast<uint64_t>(weight * static_cast<C>(kUnits)) : 0;
}

/// What warp w left, in lane w; nothing in the lanes beyond.
template <typename Sums>
HONE_DEVICE Sums of_lane(const device::SharedView<Sums>& of_warp) {
  Sums out;
  if (device::lane() < kWarps) out = of_warp[device::lane()];
  return out;
}

/// A warp's part of the row; each lane meets the same vectors at every walk, the first of them in
/// its own corner of shared memory.
template <typename T>
struct Part {
  static constexpr int kWidth = LogitRow<T>::kWidth;

  LogitRow<T> row;
  Run run;
  device::SharedView<T> held;
  int held_vectors;  // of a lane

  HONE_DEVICE int place(int i) const { return (i * kThreads + device::thread_index()) * kWidth; }
  template <bool kRaw, typename C = math::Compute<T>>
  HONE_DEVICE SoftmaxSums<C> first_walk(C scale) const {
    int i = 0;
    return sums_of_run<kRaw>(row, run, scale, [&](int, const auto& stored) {
      if (i < held_vectors) device::store_vector(held, place(i), stored);
      ++i;
    });
  }
  /// visit(x, stored x) for each of the lane's logits that is not below `from`.
  template <typename Visit, typename C = math::Compute<T>>
  HONE_DEVICE void walk_again(C from, const Visit& visit) const {
    const int mine = (run.end - run.begin - device::lane() + device::kWarp - 1) / device::kWarp;
    const auto at = [&](int i) {
      return i < held_vectors ? device::load_vector<kWidth>(held, place(i))
                              : row.load(run.begin + device::lane() + i * device::kWarp);
    };
    if (mine <= 0) return;
    auto next = at(0);
    for (int i = 0; i < mine; ++i) {
      const auto stored = next;
      if (i + 1 < mine) next = at(i + 1);  // on its way while this one is looked at
      C top = math::widen(stored[0]);
      HONE_UNROLL
      for (int k = 1; k < kWidth; ++k) top = std::fmax(top, math::widen(stored[k]));
      if (!(top >= from)) continue;  // most vectors of most rows
      HONE_UNROLL
      for (int k = 0; k < kWidth; ++k) {
        if (math::widen(stored[k]) >= from) visit(math::widen(stored[k]), stored[k]);
      }
    }
  }
};

/// What the filters leave: logits above `low` and, by their ids, the first `ties` that equal it.
template <typename T>
struct Kept {
  using C = math::Compute<T>;
  using Key = typename SortKey<T>::Bits;

  static constexpr bool kTies = true;

  C base, scale;  // of softmax_weight
  C low;
  int ties;

  HONE_DEVICE C weight(C x) const { return softmax_weight(x, base, scale); }
  HONE_DEVICE bool tie(T x) const { return math::widen(x) == low; }
  /// Units, with `rank` ties before.
  HONE_DEVICE uint64_t operator()(T stored, int& rank) const {
    const C x = math::widen(stored);
    const bool kept = x == low ? rank++ < ties : x > low;
    return kept ? units(weight(x)) : 0;
  }
  /// Everything from the number of `key` on, if that is less than what is kept.
  HONE_DEVICE void from(Key key) {
    const C x = math::widen(number_of<T>(key));
    if (x > low) {
      low = x;
      ties = kAll;
    }
  }
  /// The smallest key that weighs `least`.
  HONE_DEVICE Key key_of_weight(C top, C least) const {
    T stored;
    math::narrow(top, stored);
    return smallest_key<T>(sort_key(stored), [&](T x) { return weight(math::widen(x)) >= least; });
  }
};

/// Of a run of vectors.
template <typename C>
struct KeptSums {
  uint64_t above = 0;  // units
  int ties = 0;
  C weight = 0;  // of what is above

  template <typename T>
  HONE_DEVICE void add(const Kept<T>& kept, C x) {
    if (x > kept.low) {
      const C w = kept.weight(x);
      above += units(w);
      weight += w;
    }
    ties += x == kept.low ? 1 : 0;
  }
};

struct MergeKept {
  template <typename C>
  HONE_DEVICE KeptSums<C> operator()(const KeptSums<C>& a, const KeptSums<C>& b) const {
    return {a.above + b.above, a.ties + b.ties, a.weight + b.weight};
  }
};

/// Where the target lies among the runs of a warp's lanes, in every lane.
struct Found {
  int lane;         // -1: nothing is kept
  uint64_t target;  // inside its run
  int ties;         // that are kept there
};

/// Lane w has run w's sums; of all ties, `tie` units each, the first `ties` are kept, `own_ties` of
/// them in the lane's run. `draw(total)` gives the target.
template <typename C, typename Draw>
HONE_DEVICE Found find(const KeptSums<C>& sums, uint64_t tie, int ties, int& own_ties,
                       const Draw& draw) {
  const int before = device::warp_inclusive_scan(sums.ties, device::Add{}) - sums.ties;
  const int room = ties > before ? ties - before : 0;
  own_ties = sums.ties < room ? sums.ties : room;
  const uint64_t weight = sums.above + tie * static_cast<uint64_t>(own_ties);
  const uint64_t target = draw(device::warp_all_reduce(weight, device::Add{}));
  const Place<uint64_t> place = place_among_lanes(weight, target);
  const int lane = place.lane < 0 ? 0 : place.lane;
  return {place.lane, target - place.below, device::shuffle(own_ties, lane)};
}

/// Narrows `kept` by the filters; all threads of the block. `own_top`: the thread's largest logit.
template <typename T, typename C = math::Compute<T>>
HONE_DEVICE void filter(const FilteredSampleArgs<T>& a, const Part<T>& part, C own_top,
                        const RowTotals<C>& totals, const SearchSpace& space, Kept<T>& kept) {
  using Key = typename SortKey<T>::Bits;
  double total = totals.total * kUnits;
  if (a.top_k > 0 && a.top_k < a.vocabulary) {
    const auto k = static_cast<uint64_t>(a.top_k);
    // The k-th largest of the threads' largest is no larger than that of all: few are left to sift.
    const auto bound = find_crossing<kThreads, Key>(space, k, [&](const auto& add) {
      T stored;
      math::narrow(own_top, stored);
      add(sort_key(stored), own_top > -INFINITY ? 1 : 0);
    });
    if (bound.found) kept.from(bound.key);
    const auto kth = find_crossing<kThreads, Key>(space, k, [&](const auto& add) {
      part.walk_again(kept.low,
                      [&](C x, T stored) { add(sort_key(stored), x > -INFINITY ? 1 : 0); });
    });
    if (kth.found) kept.from(kth.key);
    if (a.top_p < 1) {
      uint64_t own = 0;
      part.walk_again(kept.low, [&](C x, T) { own += units(kept.weight(x)); });
      total = static_cast<double>(device::block_reduce<kThreads>(own, device::Add{}));
    }
  }
  if (a.min_p > 0) kept.from(kept.key_of_weight(totals.top, static_cast<C>(a.min_p)));
  if (!(a.top_p < 1)) return;
  const auto goal = static_cast<uint64_t>(std::ceil(a.top_p * total));
  // All that weighs less than (1 - p) of the mean is together less than (1 - p) of the total, so
  // that no crossing is among it.
  const C least = static_cast<C>((1 - a.top_p) * (total / kUnits) * 0.999 / a.vocabulary);
  Kept<T> searched = kept;
  if (least > C(0)) searched.from(kept.key_of_weight(totals.top, least));
  const auto crossing =
      find_crossing<kThreads, Key>(space, goal > 0 ? goal : 1, [&](const auto& add) {
        part.walk_again(searched.low,
                        [&](C x, T stored) { add(sort_key(stored), units(kept.weight(x))); });
      });
  if (!crossing.found) return;  // min-p leaves less
  kept.from(crossing.key);
  // Ties are kept while what is before them has not reached the goal.
  const uint64_t tie = units(kept.weight(kept.low));
  const uint64_t ties = (goal - crossing.before + tie - 1) / (tie > 0 ? tie : 1);
  kept.ties = static_cast<int>(std::min(ties, static_cast<uint64_t>(kAll)));
}

template <typename T, bool kRaw>
HONE_KERNEL(kThreads)
sample_filtered_kernel(FilteredSampleArgs<T> a, math::Compute<T> scale, int held_vectors) {
  using C = math::Compute<T>;
  const int64_t r = device::block_index();
  const LogitRow<T> row(a.logits + r * a.vocabulary, a.vocabulary);
  const Part<T> part{
      row, row.whole().piece(device::warp_index(), kWarps),
      device::dynamic_shared<T>(0, int64_t{kThreads} * Part<T>::kWidth * held_vectors),
      held_vectors};
  HONE_SHARED(SoftmaxSums<C>, of_part, kWarps);
  HONE_SHARED(KeptSums<C>, kept_of_part, kWarps);
  HONE_SHARED(Found, found_by_warp_0, 1);
  HONE_SHARED(RowTotals<C>, totals_by_warp_0, 1);
  HONE_SHARED(unsigned, low, kBins);
  HONE_SHARED(unsigned, high, kBins);
  HONE_SHARED(Crossing<uint64_t>, crossing, 1);
  HONE_SHARED(double, uniform, 1);

  if (device::thread_index() == kThreads - 1) {
    const int64_t* const key = a.keys + 3 * r;
    uniform[0] = math::sample_uniform(a.seed, key[0], key[1], key[2]);
  }

  SoftmaxSums<C> sums = part.template first_walk<kRaw>(scale);
  const C own_top = sums.top;
  sums = device::warp_reduce(sums, MergeSoftmax<kRaw, C>{scale});
  if (!kRaw) sums.raw = sums.sum;
  if (device::lane() == 0) of_part[device::warp_index()] = sums;
  device::barrier();
  if (device::warp_index() == 0) {
    double weight;
    C share;
    const RowTotals<C> totals =
        totals_of_parts(of_lane<SoftmaxSums<C>>(of_part), scale, false, weight, share);
    if (device::lane() == 0) totals_by_warp_0[0] = totals;
  }
  device::barrier();

  Kept<T> kept{0, scale, -INFINITY, 0};
  {
    const RowTotals<C> totals = totals_by_warp_0[0];
    kept.base = softmax_base(totals.top, scale);
    filter(a, part, own_top, totals, {low, high, crossing}, kept);
  }
  const uint64_t tie = units(kept.weight(kept.low));
  KeptSums<C> mine;
  part.walk_again(kept.low, [&](C x, T) { mine.add(kept, x); });
  mine = device::warp_reduce(mine, MergeKept{});
  if (device::lane() == 0) kept_of_part[device::warp_index()] = mine;
  device::barrier();
  double kept_weight = 0;
  if (device::warp_index() == 0) {
    mine = of_lane<KeptSums<C>>(kept_of_part);
    int ties = 0;
    const Found found = find(mine, tie, kept.ties, ties, [&](uint64_t total) {
      // The product may round up to the total, which no token exceeds.
      const auto target = static_cast<uint64_t>(uniform[0] * static_cast<double>(total));
      return total > 0 && target >= total ? total - 1 : target;
    });
    kept_weight = device::warp_all_reduce(
        mine.weight + static_cast<double>(kept.weight(kept.low)) * static_cast<double>(ties),
        device::Add{});
    if (device::lane() == 0) found_by_warp_0[0] = found;
  }
  device::barrier();
  // The part that holds the target again, each warp a piece of it.
  const Found found = found_by_warp_0[0];
  const Run chosen = row.whole().piece(found.lane < 0 ? 0 : found.lane, kWarps);
  mine = {};
  walk(row, chosen.piece(device::warp_index(), kWarps), [&](int, const auto& stored) {
    HONE_UNROLL
    for (int k = 0; k < LogitRow<T>::kWidth; ++k) mine.add(kept, math::widen(stored[k]));
  });
  mine = device::warp_reduce(mine, MergeKept{});
  device::barrier();
  if (device::lane() == 0) kept_of_part[device::warp_index()] = mine;
  device::barrier();
  if (device::warp_index() != 0) return;
  int ties = 0;
  const Found piece = find(of_lane<KeptSums<C>>(kept_of_part), tie, found.ties, ties,
                           [&](uint64_t) { return found.target; });
  kept.ties = piece.ties;
  const int token =
      pick(row, chosen.piece(piece.lane < 0 ? 0 : piece.lane, kWarps), kept, piece.target);
  if (device::lane() != 0) return;
  store_drawn(a, r, row, RowTotals<C>(totals_by_warp_0[0]), scale, token, kept_weight);
}

}  // namespace

template <typename T>
cudaError_t launch_sample_filtered(const FilteredSampleArgs<T>& args, cudaStream_t stream) {
  if (args.vocabulary < 1 || args.vocabulary > kMaxSampledVocabulary) return cudaErrorInvalidValue;
  constexpr int64_t kVector = 16 * kThreads;  // bytes of one vector a thread
  const int64_t bytes = args.vocabulary * static_cast<int64_t>(sizeof(T));
  const int64_t held = std::min(kHeldBytes, (bytes + kVector - 1) / kVector * kVector);
  return device::launch(
      args.temperature == 1 ? sample_filtered_kernel<T, false> : sample_filtered_kernel<T, true>,
      args.rows, kThreads, static_cast<size_t>(held), stream, args,
      sampling_scale<T>(args.temperature), static_cast<int>(held / kVector));
}

template cudaError_t launch_sample_filtered(const FilteredSampleArgs<float>&, cudaStream_t);
template cudaError_t launch_sample_filtered(const FilteredSampleArgs<double>&, cudaStream_t);
template cudaError_t launch_sample_filtered(const FilteredSampleArgs<math::Bfloat16>&,
                                            cudaStream_t);

}  // namespace hone::kernels::cuda
