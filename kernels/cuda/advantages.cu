// Advantages of a batch as one segmented reverse scan over all its entries, packed or padded, so
// that the load is even whatever the lengths (0, 1 and a million alike). One launch, no atomics on
// numbers, every input read once: the bound is 20 bytes a token.
//
//   a block takes a tile of kTile tokens, by ticket, the last tile first
//   1. its inputs are asked for, 16 bytes a load; the ends of rows are marked  row_marks.cuh
//   2. each thread composes the maps of its runs; scan over the block          tile_runs.cuh
//   3. the tile's map is published; the state that enters is looked up         tile_chain.cuh
//   4. each thread applies its maps again and stores; the block sums its statistics
//   5. the block that is done last adds the tiles' statistics in their order
//
// A step is an affine map of what flows backwards in time (kernels/math/gae.h, vtrace.h); the map
// of the last entry of a sequence is constant, which is all the segmentation there is. Scans run in
// rank order with rank 0 the latest time, so `compose(a, b)` gets the later stretch first.

#include <algorithm>

#include "kernels/cuda/fixed_order_sum.cuh"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/row_marks.cuh"
#include "kernels/cuda/tile_chain.cuh"
#include "kernels/cuda/tile_entries.cuh"
#include "kernels/math/gae.h"
#include "kernels/math/vtrace.h"

namespace hone::kernels::cuda {
namespace {

using math::AdvantageParams;
using math::AdvantageRows;
using math::AdvantageStats;

static_assert(kTileThreads == kSumThreads);

/// At least one, whose block stores the statistics of an empty batch.
int64_t tile_count(int64_t tokens) { return std::max<int64_t>(1, (tokens + kTile - 1) / kTile); }

template <class Rule>
struct Compose {
  using Map = typename Rule::Map;

  HONE_DEVICE Map operator()(const Map& later, const Map& earlier) const {
    return math::compose(later, earlier);
  }
};

/// Steps 1 to 4 for one tile.
template <class Rule, typename T, Layout kLayout>
HONE_DEVICE void run_tile(const AdvantageRows<T>& rows, const AdvantageParams<T>& p, bool aligned,
                          const TileChain<Rule>& chain, int64_t ticket,
                          const device::SharedView<uint32_t>& mark,
                          const device::SharedView<int64_t>& last_row, AdvantageStats& stats) {
  HONE_SHARED(typename Rule::State, entering, 1);
  const int64_t begin = (chain.tiles - 1 - ticket) * kTile;
  const int64_t end = std::min(begin + kTile, rows.tokens);
  const bool wide = aligned && end - begin == kTile;
  TileEntries<T, kLayout> entries{rows, p, begin, wide};
  if constexpr (kLayout != Layout::kByRow) entries.load(stats);
  const RowMarks marks{mark, last_row, row_near(rows, begin)};
  mark_rows(rows, marks, begin, end);
  device::barrier();
  entries.place(marks, end, stats);

  typename Rule::Map maps[kRuns];
  HONE_UNROLL
  for (int s = 0; s < kRuns; ++s) {
    maps[s] = Rule::identity();
    const auto ends = marks.of_run(s);
    HONE_UNROLL
    for (int k = kRun - 1; k >= 0; --k) {
      const int64_t row = ends[k] != 0 ? marks.row(ends[k]) : -1;
      maps[s] = math::compose(
          maps[s], math::entry_map<Rule>(rows, row, entries.step(s, k), ends[k] != 0, p));
    }
  }
  const auto scan = run_scan(maps, Rule::identity(), Compose<Rule>{});
  if (device::thread_index() == 0) chain.tile_maps().post(ticket, scan.total);
  if (device::warp_index() == 0) {
    // Where a row ends with the tile, nothing enters it.
    const bool closed = mark[end - 1 - begin] != 0;
    const auto state = closed ? Rule::start(0) : state_entering(chain, ticket);
    if (device::lane() == 0) {
      publish_state(chain, ticket, scan.total(state));
      entering[0] = state;
    }
  }
  device::barrier();

  using State = typename Rule::State;
  const State into_tile = entering[0];
  scan.each(
      into_tile, [](const auto& map, const State& state) { return map(state); },
      [&](int s, State next) {
        const auto ends = marks.of_run(s);
        Run<T> advantages, returns, rewards;
        HONE_UNROLL
        for (int k = kRun - 1; k >= 0; --k) {
          if (ends[k] != 0) next = Rule::start(rows.value_after(marks.row(ends[k])));
          const auto step = entries.step(s, k);
          const auto out = math::settle(step, Rule::result(step, next, p), stats);
          advantages[k] = out.advantage;
          returns[k] = out.target;
          rewards[k] = step.reward;
          if (step.takes_part) next = Rule::map(step, p)(next);
        }
        const int64_t first = begin + run_begin(s);
        store_run(rows.advantages, first, end, wide, advantages);
        store_run(rows.returns, first, end, wide, returns);
        if (rows.rewards != nullptr) store_run(rows.rewards, first, end, wide, rewards);
      });
}

// Three blocks an SM leave a thread the registers that its sixteen steps take.
template <class Rule, typename T, Layout kLayout>
HONE_KERNEL_RESIDENT(kTileThreads, sizeof(T) == 4 ? 3 : 2)
advantages_kernel(AdvantageRows<T> rows, AdvantageParams<T> p, bool aligned, TileChain<Rule> chain,
                  AdvantageStats* tile_stats, double* stats) {
  HONE_SHARED(int64_t, taken, 1);
  HONE_SHARED(uint32_t, mark, kTile);
  HONE_SHARED(int64_t, last_row, 1);
  if (device::thread_index() == 0) {
    taken[0] = static_cast<int64_t>(device::atomic_add_relaxed(chain.ticket(), 1));
    last_row[0] = rows.sequences - 1;
  }
  clear_marks(mark);
  device::barrier();
  const int64_t ticket = taken[0];
  AdvantageStats mine;
  if (rows.tokens > 0) {
    run_tile<Rule, T, kLayout>(rows, p, aligned, chain, ticket, mark, last_row, mine);
  }
  const AdvantageStats of_tile = block_sum(mine);
  HONE_SHARED(int64_t, done_before, 1);
  if (device::thread_index() == 0) {
    tile_stats[chain.tiles - 1 - ticket] = of_tile;
    device::fence();
    done_before[0] = static_cast<int64_t>(device::atomic_add_relaxed(chain.done(), 1));
  }
  device::barrier();
  if (done_before[0] != chain.tiles - 1) return;

  // Every other block has ended its work: its statistics are there, and nobody reads the words.
  device::fence();
  AdvantageStats sums;
  HONE_UNROLL
  for (int64_t i = device::thread_index(); i < chain.tiles; i += kTileThreads) {
    sums.merge(tile_stats[i]);
  }
  const AdvantageStats total = block_sum(sums);
  if (device::thread_index() == 0) total.store(stats);
  for (int64_t i = device::thread_index(); i < chain_words(chain.tiles); i += kTileThreads) {
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
  const auto run = [&](auto kernel) {
    return device::launch(kernel, tiles, kTileThreads, 0, stream, args.rows, args.params,
                          are_wide(args.rows), chain, tile_stats, args.stats);
  };
  switch (layout_of(args.rows)) {
    case Layout::kAll:
      return run(advantages_kernel<Rule, T, Layout::kAll>);
    case Layout::kMasked:
      return run(advantages_kernel<Rule, T, Layout::kMasked>);
    case Layout::kByRow:
      break;
  }
  return run(advantages_kernel<Rule, T, Layout::kByRow>);
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
