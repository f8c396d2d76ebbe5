// Advantages of a batch as one segmented reverse scan over all its entries, packed or padded, so
// that the load is even whatever the lengths (0, 1 and a million alike). One launch, no atomics on
// numbers, every input read once: the bound is 20 bytes a token.
//
//   a block takes a tile of kTile tokens, by ticket, the last tile first
//   1. each thread loads kItems consecutive tokens and composes their maps    registers
//   2. scan over the block                                                    shared memory
//   3. the tile's map is published; the state that enters is looked up        tile_chain.cuh
//   4. each thread applies its maps again and stores; the block sums its statistics
//   5. the block that is done last adds the tiles' statistics in their order
//
// A step is an affine map of what flows backwards in time (kernels/math/gae.h, vtrace.h); the map
// of the last entry of a sequence is constant, which is all the segmentation there is. Scans run in
// rank order with rank 0 the latest time, so `compose(a, b)` gets the later stretch first.

#include <algorithm>

#include "kernels/cuda/fixed_order_sum.cuh"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/row_search.cuh"
#include "kernels/cuda/tile_chain.cuh"
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

/// At least one, whose block stores the statistics of an empty batch.
int64_t tile_count(int64_t tokens) { return std::max<int64_t>(1, (tokens + kTile - 1) / kTile); }

/// Which entries of a stretch of time are trained, as far as the row that reaches out of it at its
/// earlier end is concerned.
struct Trained {
  int any;   // of that row
  int ends;  // that row ends inside the stretch
};

struct JoinTrained {
  HONE_DEVICE Trained operator()(const Trained& later, const Trained& earlier) const {
    return {earlier.ends != 0 ? earlier.any : (earlier.any | later.any), earlier.ends | later.ends};
  }
};

/// Is an entry of `row` trained from `t` on? The whole block asks, 4096 entries at a time.
template <typename T>
HONE_DEVICE bool trained_from(const AdvantageRows<T>& rows, int64_t row, int64_t t) {
  constexpr int kLooks = 16;
  for (const int64_t end = rows.trained_end(row); t < end; t += kThreads * kLooks) {
    int any = 0;
    HONE_UNROLL
    for (int i = 0; i < kLooks; ++i) {
      const int64_t at = t + i * kThreads + device::thread_index();
      if (at < end && rows.mask.at(row, at) != 0) any = 1;
    }
    if (device::block_reduce<kThreads>(any, device::Larger{}) != 0) return true;
  }
  return false;
}

/// The tokens of a thread, [begin, end) of the batch, from the latest to the earliest.
template <typename T>
struct Span {
  const AdvantageRows<T>& rows;
  int64_t begin, end;
  int64_t last_row;  // of token end - 1

  /// visit(k, t, row, ends_row) with k the token's number from the end of a full span.
  template <typename Visit>
  HONE_DEVICE void each(Visit visit) const {
    int64_t row = last_row;
    HONE_UNROLL
    for (int k = 0; k < kItems; ++k) {
      const int64_t t = begin + kItems - 1 - k;
      if (t >= end) continue;
      while (row > 0 && t < rows.begin(row)) --row;
      visit(k, t, row, t + 1 == rows.end(row));
    }
  }
};

/// Is an entry after this span's last one trained in the same row? All threads.
template <typename T>
HONE_DEVICE bool trained_later(const Span<T>& span, int64_t tile_end, int64_t tile_row) {
  Trained mine{0, 0};
  span.each([&](int, int64_t t, int64_t row, bool ends_row) {
    if (ends_row) mine = {0, 1};
    if (span.rows.trained(row, t)) mine.any = 1;
  });
  const bool beyond =
      tile_end < span.rows.end(tile_row) && trained_from(span.rows, tile_row, tile_end);
  const auto scan = device::block_scan<kThreads>(mine, Trained{0, 0}, JoinTrained{});
  return scan.before.any != 0 || (scan.before.ends == 0 && beyond);
}

// Two blocks an SM leave a thread the registers that its eight steps take.
template <class Rule, typename T>
HONE_KERNEL_RESIDENT(kThreads, 2)
advantages_kernel(AdvantageRows<T> rows, AdvantageParams<T> p, TileChain<Rule> chain,
                  AdvantageStats* tile_stats, double* stats) {
  HONE_SHARED(int64_t, taken, 1);
  HONE_SHARED(typename Rule::State, entering, 1);
  if (device::thread_index() == 0) taken[0] = device::atomic_add(chain.ticket(), 1);
  device::barrier();
  const int64_t ticket = taken[0], tile = chain.tiles - 1 - ticket;
  const int64_t tile_begin = tile * kTile, tile_end = std::min(tile_begin + kTile, rows.tokens);
  AdvantageStats mine;
  if (tile_begin < tile_end) {  // all but an empty batch
    const RowRange range{row_of_by_warp(rows, tile_begin), row_of_by_warp(rows, tile_end - 1)};
    const int64_t begin = tile_begin + kTile - (device::thread_index() + 1) * kItems;
    const int64_t end = std::min(begin + kItems, rows.tokens);
    const Span<T> span{rows, begin, end, begin < end ? row_of(rows, end - 1, range) : range.last};

    bool later = rows.mask ? trained_later(span, tile_end, range.last) : false;
    math::AdvantageStep<T> steps[kItems];
    auto map = Rule::identity();
    span.each([&](int k, int64_t t, int64_t row, bool ends_row) {
      if (!rows.mask) later = t + 1 < rows.trained_end(row);
      if (ends_row) later = false;
      const bool scored = math::is_scored(rows, row, t, later, p.after_last);
      steps[k] = math::load_step(rows, row, t, scored ? t : -1, p);
      if (steps[k].trained) later = true;
      mine.kl += steps[k].kl;
      steps[k].kl = 0;  // summed: eight registers less to the second walk
      map = math::compose(map, math::entry_map<Rule>(rows, row, steps[k], ends_row, p));
    });

    const auto scan = device::block_scan<kThreads>(map, Rule::identity(), Compose<Rule>{});
    if (device::thread_index() == 0) {
      publish_map(chain, ticket, scan.total, rows.end(range.first) <= tile_end);
    }
    if (device::warp_index() == 0) {
      // Where a row ends with the tile, nothing enters it.
      const auto state =
          tile_end == rows.end(range.last) ? Rule::start(0) : state_entering(chain, ticket);
      if (device::lane() == 0) {
        publish_state(chain, ticket, scan.total(state));
        entering[0] = state;
      }
    }
    device::barrier();
    auto next = scan.before(entering[0]);
    span.each([&](int k, int64_t t, int64_t row, bool ends_row) {
      if (ends_row) next = Rule::start(rows.value_after(row));
      math::store_step(rows, t, steps[k], Rule::result(steps[k], next, p), mine);
      if (steps[k].takes_part) next = Rule::map(steps[k], p)(next);
    });
  }
  const AdvantageStats of_tile = block_sum(mine);
  HONE_SHARED(int64_t, done_before, 1);
  if (device::thread_index() == 0) {
    tile_stats[tile] = of_tile;
    done_before[0] = device::atomic_add(chain.done(), 1);
  }
  device::barrier();
  if (done_before[0] != chain.tiles - 1) return;

  // Every other block has ended its work: its statistics are there, and nobody reads the words.
  AdvantageStats sums;
  for (int64_t i = device::thread_index(); i < chain.tiles; i += kThreads) {
    sums.merge(tile_stats[i]);
  }
  const AdvantageStats total = block_sum(sums);
  if (device::thread_index() == 0) total.store(stats);
  for (int64_t i = device::thread_index(); i < chain_words(chain.tiles); i += kThreads) {
    chain.words[i] = 0;
  }
}

template <class Rule, typename T>
cudaError_t launch_rule(const AdvantageArgs<T>& args, cudaStream_t stream) {
  const int64_t tiles = tile_count(args.rows.tokens);
  auto* const tile_stats = static_cast<AdvantageStats*>(args.workspace);
  TileChain<Rule> chain;
  chain.words = args.words;
  chain.maps = reinterpret_cast<typename Rule::Map*>(tile_stats + tiles);
  chain.states = reinterpret_cast<typename Rule::State*>(chain.maps + tiles);
  chain.tiles = tiles;
  return device::launch(advantages_kernel<Rule, T>, tiles, kThreads, 0, stream, args.rows,
                        args.params, chain, tile_stats, args.stats);
}

}  // namespace

template <typename T>
size_t advantage_workspace_bytes(int64_t tokens) {
  using Largest = math::Vtrace<T>;
  const size_t tiles = static_cast<size_t>(tile_count(tokens));
  return tiles * (sizeof(AdvantageStats) + sizeof(typename Largest::Map)) +
         static_cast<size_t>(chain_groups(tile_count(tokens))) * sizeof(typename Largest::State);
}

int64_t advantage_words(int64_t tokens) { return chain_words(tile_count(tokens)); }

template <typename T>
cudaError_t launch_advantages(const AdvantageArgs<T>& args, cudaStream_t stream) {
  return args.vtrace ? launch_rule<math::Vtrace<T>>(args, stream)
                     : launch_rule<math::Gae<T>>(args, stream);
}

template size_t advantage_workspace_bytes<float>(int64_t);
template size_t advantage_workspace_bytes<double>(int64_t);
template cudaError_t launch_advantages(const AdvantageArgs<float>&, cudaStream_t);
template cudaError_t launch_advantages(const AdvantageArgs<double>&, cudaStream_t);

}  // namespace hone::kernels::cuda
