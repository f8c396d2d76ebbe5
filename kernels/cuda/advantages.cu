// Advantages of a batch as one segmented reverse scan over all its entries, packed or padded, so
// that the load is even whatever the lengths (0, 1 and a million alike). Five launches, no atomics:
//
//   score_entry_kernel  one thread a sequence: where its score goes
//   tile_map_kernel     one block a tile of kTile tokens: the affine map of the whole tile
//   carry_kernel        one block: X that enters each tile from the right (exclusive scan)
//   apply_kernel        one block a tile: scan inside the tile, outputs, partial statistics
//   total_sum_kernel    one block: statistics in a fixed order
//
// A step is an affine map of what flows backwards in time (kernels/math/gae.h, vtrace.h); the map
// of the last entry of a sequence is constant, which is all the segmentation there is. Scans run in
// rank order with rank 0 the latest time, so `compose(a, b)` gets the later stretch first. Inputs
// are read twice, the second time mostly from L2; the bound is 20 bytes a token once.

#include <algorithm>

#include "kernels/cuda/fixed_order_sum.cuh"
#include "kernels/cuda/launchers.h"
#include "kernels/math/gae.h"
#include "kernels/math/vtrace.h"

namespace hone::kernels::cuda {
namespace {

using math::AdvantageParams;
using math::AdvantageRows;
using math::AdvantageStats;

constexpr int kThreads = kSumThreads;
constexpr int kItems = 8;  // consecutive tokens a thread: one 32-byte sector of float
constexpr int64_t kTile = kThreads * kItems;

template <class Rule>
struct Compose {
  using Map = typename Rule::Map;

  HONE_DEVICE Map operator()(const Map& later, const Map& earlier) const {
    return math::compose(later, earlier);
  }
};

/// Workspace of one call, laid out behind one pointer.
template <class Rule>
struct Workspace {
  AdvantageStats* stats;            // [tiles]
  int64_t* scored;                  // [B]
  typename Rule::Map* tile_maps;    // [tiles]
  typename Rule::State* tile_next;  // [tiles] state after the tile
};

int64_t tile_count(int64_t tokens) { return (tokens + kTile - 1) / kTile; }

template <class Rule>
Workspace<Rule> layout(void* workspace, int64_t tiles, int64_t sequences) {
  Workspace<Rule> w;
  w.stats = static_cast<AdvantageStats*>(workspace);
  w.scored = reinterpret_cast<int64_t*>(w.stats + tiles);
  w.tile_maps = reinterpret_cast<typename Rule::Map*>(w.scored + sequences);
  w.tile_next = reinterpret_cast<typename Rule::State*>(w.tile_maps + tiles);
  return w;
}

template <typename T>
HONE_KERNEL(kThreads)
score_entry_kernel(AdvantageRows<T> rows, bool after_last, int64_t* scored) {
  const int64_t row = device::block_index() * kThreads + device::thread_index();
  if (row >= rows.sequences) return;
  scored[row] = math::score_entry(rows, row, after_last);
}

/// The sequence of token t: the last row with cu_seqlens[row] <= t (empty rows are passed over).
template <typename T>
HONE_DEVICE int64_t row_of(const AdvantageRows<T>& rows, int64_t t) {
  if (rows.cu_seqlens == nullptr) return t / rows.width;
  const int64_t* cu_seqlens = rows.cu_seqlens;
  int64_t low = 0, high = rows.sequences;  // cu_seqlens[low] <= t < cu_seqlens[high]
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    if (cu_seqlens[middle] <= t) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

/// Visits this thread's tokens from the latest to the earliest: visit(t, row, ends_row).
template <typename T, typename Visit>
HONE_DEVICE void visit_tokens(const AdvantageRows<T>& rows, Visit visit) {
  const int64_t last_of_tile = (device::block_index() + 1) * kTile;
  const int64_t begin = last_of_tile - (device::thread_index() + 1) * kItems;
  const int64_t end = std::min(begin + kItems, rows.tokens);
  if (begin >= end) return;
  int64_t row = row_of(rows, end - 1);
  for (int64_t t = end - 1; t >= begin; --t) {
    while (row > 0 && t < rows.begin(row)) --row;
    visit(t, row, t + 1 == rows.end(row));
  }
}

template <class Rule, typename T>
HONE_DEVICE typename Rule::Map map_of_thread(const AdvantageRows<T>& rows,
                                             const AdvantageParams<T>& p, const int64_t* scored) {
  auto map = Rule::identity();
  visit_tokens(rows, [&](int64_t t, int64_t row, bool ends_row) {
    const auto step = math::load_step(rows, row, t, scored[row], p);
    map = math::compose(map, math::entry_map<Rule>(rows, row, step, ends_row, p));
  });
  return map;
}

template <class Rule, typename T>
HONE_KERNEL(kThreads)
tile_map_kernel(AdvantageRows<T> rows, AdvantageParams<T> p, Workspace<Rule> w) {
  const auto map = map_of_thread<Rule>(rows, p, w.scored);
  const auto whole = device::block_reduce<kThreads>(map, Compose<Rule>{});
  if (device::thread_index() == 0) w.tile_maps[device::block_index()] = whole;
}

/// Walks the tiles from the last, kThreads at a time; `next` is the state entering the batch of
/// tiles.
template <class Rule>
HONE_KERNEL(kThreads)
carry_kernel(Workspace<Rule> w, int64_t tiles) {
  auto next = Rule::start(0);  // nothing after the stream
  for (int64_t base = 0; base < tiles; base += kThreads) {
    const int64_t tile = tiles - 1 - base - device::thread_index();
    const auto map = tile >= 0 ? w.tile_maps[tile] : Rule::identity();
    const auto scan = device::block_scan<kThreads>(map, Rule::identity(), Compose<Rule>{});
    if (tile >= 0) w.tile_next[tile] = scan.before(next);
    next = scan.total(next);
  }
}

template <class Rule, typename T>
HONE_KERNEL(kThreads)
apply_kernel(AdvantageRows<T> rows, AdvantageParams<T> p, Workspace<Rule> w) {
  const auto map = map_of_thread<Rule>(rows, p, w.scored);
  const auto scan = device::block_scan<kThreads>(map, Rule::identity(), Compose<Rule>{});
  auto next = scan.before(w.tile_next[device::block_index()]);
  AdvantageStats mine;
  visit_tokens(rows, [&](int64_t t, int64_t row, bool ends_row) {
    const auto step = math::load_step(rows, row, t, w.scored[row], p);
    if (ends_row) next = Rule::start(rows.value_after(row));
    math::store_step(rows, t, step, Rule::result(step, next, p), mine);
    if (step.takes_part) next = Rule::map(step, p)(next);
  });
  const AdvantageStats total = block_sum(mine);
  if (device::thread_index() == 0) w.stats[device::block_index()] = total;
}

struct StoreStats {
  double* stats;

  HONE_DEVICE void operator()(const AdvantageStats& total) const {
    stats[0] = total.sum;
    stats[1] = total.squares;
    stats[2] = total.count;
    stats[3] = total.kl;
  }
};

}  // namespace

template <typename T>
size_t advantage_workspace_bytes(int64_t tokens, int64_t sequences) {
  using Largest = math::Vtrace<T>;
  const size_t tiles = static_cast<size_t>(tile_count(tokens));
  return tiles * (sizeof(AdvantageStats) + sizeof(typename Largest::Map) +
                  sizeof(typename Largest::State)) +
         static_cast<size_t>(sequences) * sizeof(int64_t);
}

namespace {

template <class Rule, typename T>
cudaError_t launch_rule(const AdvantageArgs<T>& args, cudaStream_t stream) {
  const AdvantageRows<T>& rows = args.rows;
  const int64_t tiles = tile_count(rows.tokens);
  const auto w = layout<Rule>(args.workspace, tiles, rows.sequences);
  if (tiles > 0) {  // then there is a sequence, too
    cudaError_t error =
        device::launch(score_entry_kernel<T>, (rows.sequences + kThreads - 1) / kThreads, kThreads,
                       0, stream, rows, args.params.after_last, w.scored);
    if (error != cudaSuccess) return error;
    error =
        device::launch(tile_map_kernel<Rule, T>, tiles, kThreads, 0, stream, rows, args.params, w);
    if (error != cudaSuccess) return error;
    error = device::launch(carry_kernel<Rule>, 1, kThreads, 0, stream, w, tiles);
    if (error != cudaSuccess) return error;
    error = device::launch(apply_kernel<Rule, T>, tiles, kThreads, 0, stream, rows, args.params, w);
    if (error != cudaSuccess) return error;
  }
  return device::launch(total_sum_kernel<AdvantageStats, StoreStats>, 1, kThreads, 0, stream,
                        w.stats, tiles, StoreStats{args.stats});
}

}  // namespace

template <typename T>
cudaError_t launch_advantages(const AdvantageArgs<T>& args, cudaStream_t stream) {
  return args.vtrace ? launch_rule<math::Vtrace<T>>(args, stream)
                     : launch_rule<math::Gae<T>>(args, stream);
}

template size_t advantage_workspace_bytes<float>(int64_t, int64_t);
template size_t advantage_workspace_bytes<double>(int64_t, int64_t);
template cudaError_t launch_advantages(const AdvantageArgs<float>&, cudaStream_t);
template cudaError_t launch_advantages(const AdvantageArgs<double>&, cudaStream_t);

}  // namespace hone::kernels::cuda
