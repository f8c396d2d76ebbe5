// Advantages of a batch as one segmented reverse scan over all its entries, packed or padded, so
// that the load is even whatever the lengths (0, 1 and a million alike). One launch, no atomics on
// numbers, every input read once: the bound is 20 bytes a token.
//
//   a block takes a tile of kTile tokens, by ticket, the last tile first
//   1. its inputs are asked for, 16 bytes a load; the ends of rows are marked  row_marks.cuh
//   2. its steps; the maps of each thread's runs; scan over the block          tile_entries.cuh
//   3. the tile's map is posted; the state that enters is looked up            tile_chain.cuh
//   4. each thread applies its maps again and stores
//   5. the statistics of the block are posted; the last tile adds all of them
//
// What costs is instructions as much as bytes: 100 a token would already take as long as its bytes.
//
// A step is an affine map of what flows backwards in time (kernels/math/gae.h, vtrace.h); the map
// of the last entry of a sequence is constant, which is all the segmentation there is. Scans run in
// rank order with rank 0 the latest time, so `compose(a, b)` gets the later stretch first.

#include <algorithm>

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

/// At least one, whose block stores the statistics of an empty batch.
int64_t tile_count(int64_t tokens) { return std::max<int64_t>(1, (tokens + kTile - 1) / kTile); }

template <class Rule>
struct Compose {
  using Map = typename Rule::Map;

  HONE_DEVICE Map operator()(const Map& later, const Map& earlier) const {
    return math::compose(later, earlier);
  }
};

/// The maps of a thread's runs.
template <class Rule, typename T, typename Entries>
HONE_DEVICE void compose_runs(const AdvantageRows<T>& rows, const AdvantageParams<T>& p,
                              const RowMarks& marks, const Entries& entries,
                              typename Rule::Map (&maps)[kRuns]) {
  HONE_UNROLL
  for (int s = 0; s < kRuns; ++s) {
    if (entries.with_ends(s)) {
      const auto ends = marks.of_run(s);
      maps[s] = Rule::identity();
      HONE_UNROLL
      for (int k = kRun - 1; k >= 0; --k) {
        const int64_t row = ends[k] != 0 ? marks.row(ends[k]) : 0;
        maps[s] = math::compose(
            maps[s], math::entry_map<Rule>(rows, row, entries.step(s, k), ends[k] != 0, p));
      }
    } else {
      maps[s] = math::entry_map<Rule>(rows, 0, entries.step(s, kRun - 1), false, p);
      HONE_UNROLL
      for (int k = kRun - 2; k >= 0; --k) {
        maps[s] =
            math::compose(maps[s], math::entry_map<Rule>(rows, 0, entries.step(s, k), false, p));
      }
    }
  }
}

/// Applies run s to the state `next` that enters it and stores it.
template <class Rule, bool kWide, typename T, typename Entries>
HONE_DEVICE void settle_run(const AdvantageRows<T>& rows, const AdvantageParams<T>& p,
                            const RowMarks& marks, const Entries& entries, int64_t begin, int s,
                            typename Rule::State next, AdvantageStats& stats) {
  Run<T> advantages, returns, rewards;
  const auto settle = [&](int k) {
    const auto step = entries.step(s, k);
    const auto out = math::settle(step, Rule::result(step, next, p), stats);
    advantages[k] = out.advantage;
    returns[k] = out.target;
    rewards[k] = step.reward;
    if (step.takes_part) next = Rule::map(step, p)(next);
  };
  if (entries.with_ends(s)) {
    const auto ends = marks.of_run(s);
    HONE_UNROLL
    for (int k = kRun - 1; k >= 0; --k) {
      if (ends[k] != 0) next = Rule::start(rows.value_after(marks.row(ends[k])));
      settle(k);
    }
  } else {
    HONE_UNROLL
    for (int k = kRun - 1; k >= 0; --k) settle(k);
  }
  const int64_t first = begin + run_begin(s);
  store_run_of_tile<kWide>(rows.advantages, first, rows.tokens, advantages);
  store_run_of_tile<kWide>(rows.returns, first, rows.tokens, returns);
  if (rows.rewards != nullptr) store_run_of_tile<kWide>(rows.rewards, first, rows.tokens, rewards);
}

/// Steps 1 to 4 for one tile, [begin, end) of the stream; returns its sum thread_index() % kSums in
/// the first warp.
template <class Rule, bool kWide, typename T, Layout kLayout>
HONE_DEVICE double run_tile(const AdvantageRows<T>& rows, const AdvantageParams<T>& p,
                            const TileChain<Rule>& chain, int64_t ticket, const RowMarks& marks) {
  using State = typename Rule::State;
  HONE_SHARED(State, entering, 1);
  const int64_t begin = (chain.tiles - 1 - ticket) * kTile;
  const int64_t end = kWide || begin + kTile < rows.tokens ? begin + kTile : rows.tokens;
  AdvantageStats sums;
  TileEntries<T, kLayout, kWide> entries(rows, p, begin);
  entries.ask();
  marks.set(rows, begin, end);
  entries.load(sums.kl);
  device::barrier();
  entries.place(marks, end, sums.kl);

  typename Rule::Map maps[kRuns];
  compose_runs<Rule>(rows, p, marks, entries, maps);
  const auto scan = run_scan(maps, Rule::identity(), Compose<Rule>{});
  if (device::thread_index() == 0) chain.tile_maps().post(ticket, scan.total);
  if (device::warp_index() == 0) {
    // Where a row ends with the tile, nothing enters it.
    const bool closed = marks.mark[end - 1 - begin] != 0;
    const State state = closed ? Rule::start(0) : state_entering(chain, ticket);
    if (device::lane() == 0) {
      post_state(chain, ticket, scan.total(state));
      entering[0] = state;
    }
  }
  device::barrier();
  const State into_tile = entering[0];
  scan.each(
      into_tile, [](const auto& map, const State& state) { return map(state); },
      [&](int s, const State& state) {
        settle_run<Rule, kWide>(rows, p, marks, entries, begin, s, state, sums);
      });
  const double count = entries.trained_count();
  return add_of_block(add_of_quads(sums.sum, sums.squares, count, sums.kl));
}

/// Blocks an SM, as many as leave a thread the registers that its steps take.
template <class Rule, typename T, Layout kLayout>
constexpr int kResident = sizeof(typename Rule::Map) > 8 || kLayout == Layout::kByRow ? 2
                          : kLayout == Layout::kMasked                                ? 3
                                                                                      : 4;

template <class Rule, typename T, Layout kLayout>
HONE_KERNEL_RESIDENT(kTileThreads, (kResident<Rule, T, kLayout>))
advantages_kernel(AdvantageRows<T> rows, AdvantageParams<T> p, bool aligned, TileChain<Rule> chain,
                  double* stats) {
  HONE_SHARED(int64_t, taken, 1);
  HONE_SHARED(uint32_t, mark, kTile);
  HONE_SHARED(int64_t, bound, 2);
  const RowMarks marks{mark, bound};
  if (device::thread_index() == 0) taken[0] = chain.take_ticket();
  marks.clear();
  device::barrier();
  const int64_t ticket = taken[0];
  double sum = 0;
  if (aligned && (chain.tiles - ticket) * kTile <= rows.tokens) {
    sum = run_tile<Rule, true, T, kLayout>(rows, p, chain, ticket, marks);
  } else if (rows.tokens > 0) {
    sum = run_tile<Rule, false, T, kLayout>(rows, p, chain, ticket, marks);
  }
  add_up(chain, ticket, sum, stats);
}

template <class Rule, typename T>
cudaError_t launch_rule(const AdvantageArgs<T>& args, cudaStream_t stream) {
  TileChain<Rule> chain;
  chain.words = args.words;
  chain.tiles = tile_count(args.rows.tokens);
  chain.maps = static_cast<typename Rule::Map*>(args.workspace);
  chain.states = reinterpret_cast<typename Rule::State*>(chain.maps + chain.tiles);
  const auto run = [&](auto kernel) {
    return device::launch(kernel, chain.tiles, kTileThreads, 0, stream, args.rows, args.params,
                          are_wide(args.rows), chain, args.stats);
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
  return tiles * sizeof(typename Largest::Map) +
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
