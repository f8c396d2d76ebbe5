// Sampling with top-k, top-p and min-p, in this order and with the CPU's ties: top-k keeps all that
// tie with the k-th, top-p the lowest ids. One block a row: the row is read from memory once and
// what fits stays in shared memory (192 KB of it); the searches (radix_search.cuh) and the draw
// walk that copy and, behind it, the second-level cache. Weights are integers in units of 2^-40 of
// the largest, so that every sum is exact: which tokens are kept does not depend on an order of
// adding.
//
// 1024 threads, one block an SM: a row of 152k bfloat16 is walked in about 2 us. Any V.

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cuda/logit_rows.cuh"
#include "kernels/cuda/model_launchers.h"
#include "kernels/cuda/radix_search.cuh"
#include "kernels/math/philox.h"

namespace hone::kernels::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / device::kWarp;
static_assert(kWarps == device::kWarp);  // a lane a part below
constexpr int64_t kHeldBytes = 192 * 1024;
constexpr int64_t kAll = std::numeric_limits<int64_t>::max();

/// Of a sum over 2^22 tokens: below 2^63.
constexpr double kUnits = 0x1p40;

template <typename C>
HONE_DEVICE uint64_t units(C weight) {
  return weight > C(0) ? static_cast<uint64_t>(weight * static_cast<C>(kUnits)) : 0;
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
  /// visit(x) for each of the lane's logits, and for -inf where the row ends.
  template <typename Visit>
  HONE_DEVICE void walk_again(const Visit& visit) const {
    int v = run.begin + device::lane();
    const auto each = [&](const auto& stored) {
      HONE_UNROLL
      for (int k = 0; k < kWidth; ++k) visit(stored[k]);
    };
    for (int i = 0; i < held_vectors && v < run.end; ++i, v += device::kWarp) {
      each(device::load_vector<kWidth>(held, place(i)));
    }
    walk(row, {v - device::lane(), run.end}, [&](int, const auto& stored) { each(stored); });
  }
};

/// What the filters leave.
template <typename T>
struct Kept {
  using C = math::Compute<T>;
  using Key = typename SortKey<T>::Bits;

  static constexpr bool kTies = true;

  C base, scale, least;  // a weight from `least` on
  Key lowest;            // and a key above this, or
  int64_t ties;          // this key, and so many ids with it below

  HONE_DEVICE C weight(T x) const { return softmax_weight(math::widen(x), base, scale); }
  HONE_DEVICE bool above(T x) const { return sort_key(x) > lowest && weight(x) >= least; }
  HONE_DEVICE bool tie(T x) const { return sort_key(x) == lowest && weight(x) >= least; }
  /// Units, with `rank` ties before.
  HONE_DEVICE uint64_t operator()(T x, int& rank) const {
    const bool kept = tie(x) ? rank++ < ties : above(x);
    return kept ? units(weight(x)) : 0;
  }
};

/// Of a run of vectors.
struct KeptSums {
  uint64_t above = 0;  // units
  uint64_t tie = 0;    // units of a single one
  int64_t ties = 0;
  double weight = 0;  // of what is above

  template <typename T>
  HONE_DEVICE void add(const Kept<T>& kept, T x) {
    if (kept.above(x)) {
      const auto w = kept.weight(x);
      above += units(w);
      weight += w;
    } else if (kept.tie(x)) {
      tie = units(kept.weight(x));
      ++ties;
    }
  }
};

struct MergeKept {
  HONE_DEVICE KeptSums operator()(const KeptSums& a, const KeptSums& b) const {
    return {a.above + b.above, a.tie > b.tie ? a.tie : b.tie, a.ties + b.ties, a.weight + b.weight};
  }
};

/// Where the target lies among the runs of a warp's lanes, in every lane.
struct Found {
  int lane;         // -1: nothing is kept
  uint64_t target;  // inside its run
  int64_t ties;     // that are kept there
};

/// Lane w has run w's sums; of all ties the first `ties` are kept. `draw(total)` gives the target.
template <typename Draw>
HONE_DEVICE Found find(const KeptSums& sums, int64_t ties, int64_t& own_ties, const Draw& draw) {
  const int64_t before = device::warp_inclusive_scan(sums.ties, device::Add{}) - sums.ties;
  const int64_t room = ties > before ? ties - before : 0;
  own_ties = sums.ties < room ? sums.ties : room;
  const uint64_t weight = sums.above + sums.tie * static_cast<uint64_t>(own_ties);
  const uint64_t target = draw(device::warp_all_reduce(weight, device::Add{}));
  const Place<uint64_t> place = place_among_lanes(weight, target);
  const int lane = place.lane < 0 ? 0 : place.lane;
  return {place.lane, target - place.below, device::shuffle(own_ties, lane)};
}

/// Narrows `kept` by top-k, then by top-p; all threads of the block. `own_top`: the thread's
/// largest logit.
template <typename T, typename C = math::Compute<T>>
HONE_DEVICE void filter(const FilteredSampleArgs<T>& a, const Part<T>& part, T own_top,
                        const SearchSpace& space, Kept<T>& kept) {
  using Key = typename SortKey<T>::Bits;
  const auto counted = [](T x) { return math::widen(x) > -INFINITY ? uint64_t{1} : uint64_t{0}; };
  if (a.top_k > 0 && a.top_k < a.vocabulary) {
    const auto k = static_cast<uint64_t>(a.top_k);
    // The k-th largest of the threads' largest is no larger than that of all: few are left to sift.
    const auto bound = find_crossing<kThreads, Key>(
        space, k, [&](const auto& add) { add(sort_key(own_top), counted(own_top)); });
    const Key least = bound.found ? bound.key : Key(0);
    const auto kth = find_crossing<kThreads, Key>(space, k, [&](const auto& add) {
      part.walk_again([&](T x) {
        if (sort_key(x) >= least) add(sort_key(x), counted(x));
      });
    });
    if (kth.found) kept.lowest = kth.key;
  }
  if (!(a.top_p < 1)) return;
  uint64_t own = 0;
  part.walk_again([&](T x) {
    if (sort_key(x) >= kept.lowest) own += units(kept.weight(x));
  });
  const uint64_t total = device::block_reduce<kThreads>(own, device::Add{});
  const auto goal = static_cast<uint64_t>(std::ceil(a.top_p * static_cast<double>(total)));
  // All that weighs less than (1 - p) of the mean is together less than (1 - p) of the total, so
  // that no crossing is among it.
  const auto least = static_cast<uint64_t>((1 - a.top_p) * static_cast<double>(total) /
                                           static_cast<double>(a.vocabulary) * 0.999);
  const auto crossing =
      find_crossing<kThreads, Key>(space, goal > 0 ? goal : 1, [&](const auto& add) {
        part.walk_again([&](T x) {
          const C weight = kept.weight(x);
          const uint64_t mass = units(weight);
          if (mass >= least && weight >= kept.least && sort_key(x) >= kept.lowest) {
            add(sort_key(x), mass);
          }
        });
      });
  if (!crossing.found) return;  // min-p leaves less
  kept.lowest = crossing.key;
  // Ties are kept while what is before them has not reached the goal.
  uint64_t tie = 0;
  part.walk_again([&](T x) {
    if (sort_key(x) == crossing.key) tie = units(kept.weight(x));
  });
  tie = device::block_reduce<kThreads>(tie, device::Larger{});
  kept.ties = static_cast<int64_t>((goal - crossing.before + tie - 1) / (tie > 0 ? tie : 1));
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
  HONE_SHARED(KeptSums, kept_of_part, kWarps);
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

  const SoftmaxSums<C> own = part.template first_walk<kRaw>(scale);
  SoftmaxSums<C> sums = device::warp_reduce(own, MergeSoftmax<kRaw, C>{scale});
  if (!kRaw) sums.raw = sums.sum;
  if (device::lane() == 0) of_part[device::warp_index()] = sums;
  device::barrier();
  if (device::warp_index() == 0) {
    double weight;
    C share;
    const RowTotals<C> totals =
        totals_of_parts(SoftmaxSums<C>(of_part[device::lane()]), scale, false, weight, share);
    if (device::lane() == 0) totals_by_warp_0[0] = totals;
  }
  device::barrier();

  const C top = RowTotals<C>(totals_by_warp_0[0]).top;
  Kept<T> kept{softmax_base(top, scale), scale, static_cast<C>(a.min_p), 0, kAll};
  T own_top;
  math::narrow(own.top, own_top);
  filter(a, part, own_top, {low, high, crossing}, kept);
  KeptSums mine;
  part.walk_again([&](T x) { mine.add(kept, x); });
  mine = device::warp_reduce(mine, MergeKept{});
  if (device::lane() == 0) kept_of_part[device::warp_index()] = mine;
  device::barrier();
  double kept_weight = 0;
  if (device::warp_index() == 0) {
    mine = kept_of_part[device::lane()];
    int64_t ties = 0;
    const Found found = find(mine, kept.ties, ties, [&](uint64_t total) {
      // The product may round up to the total, which no token exceeds.
      const auto target = static_cast<uint64_t>(uniform[0] * static_cast<double>(total));
      return total > 0 && target >= total ? total - 1 : target;
    });
    kept_weight = device::warp_all_reduce(
        mine.weight + static_cast<double>(mine.tie) / kUnits * static_cast<double>(ties),
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
    for (int k = 0; k < LogitRow<T>::kWidth; ++k) mine.add(kept, stored[k]);
  });
  mine = device::warp_reduce(mine, MergeKept{});
  device::barrier();
  if (device::lane() == 0) kept_of_part[device::warp_index()] = mine;
  device::barrier();
  if (device::warp_index() != 0) return;
  int64_t ties = 0;
  const Found piece = find(KeptSums(kept_of_part[device::lane()]), found.ties, ties,
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
