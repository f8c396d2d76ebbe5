#pragma once

// A reverse scan over tiles inside one launch, after decoupled look-back (Merrill & Garland 2016),
// but with the same bits every time: what a tile waits for and the order in which it composes maps
// and adds sums depend on the data alone, never on which block was faster.
//
// Tiles are handed out by ticket; ticket 0 is the last tile of the stream. Whoever holds a lower
// ticket has already started and waits for lower ones only, so waiting for it ends. Tickets come in
// groups of kGroup. What enters a tile is found from the nearest tile of its group whose map is
// constant (a row ends in it), or else from the state that the group before left. The last tile of
// a group adds the statistics of the group, the last of all those of the groups.
//
// What tiles leave for each other are posts: a word that is 0 until then. Whoever knows that nobody
// reads a word again makes it 0 for the next launch.

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/cuda/tile_runs.cuh"
#include "kernels/math/gae.h"
#include "kernels/math/vtrace.h"

namespace hone::kernels::cuda {

constexpr int64_t kGroup = 128;  // the chain of group states is so much shorter than the tiles
constexpr int kSums = 4;         // of a tile: the fields of math::AdvantageStats in their order

HONE_DEVICE uint64_t wait_for(const uint64_t* word) {
  uint64_t seen = device::load_relaxed(word);
  while (seen == 0) {
    device::pause();
    seen = device::load_relaxed(word);
  }
  return seen;
}

/// A number as a word that is not 0: no sum is the NaN whose bits are all ones.
HONE_DEVICE void post_sum(uint64_t* word, double sum) {
  uint64_t bits;
  memcpy(&bits, &sum, sizeof bits);
  device::store_relaxed(word, bits + 1);
}
HONE_DEVICE double wait_for_sum(const uint64_t* word) {
  const uint64_t bits = wait_for(word) - 1;
  double sum;
  memcpy(&sum, &bits, sizeof sum);
  return sum;
}

/// Maps or states. Those of float GAE are the word itself, which saves the writer a fence and the
/// reader a second trip to memory.
template <typename Value>
struct Posts {
  uint64_t* words;
  Value* values;

  HONE_DEVICE void post(int64_t i, const Value& v) const {
    if constexpr (kInWord) {
      device::store_relaxed(words + i, word_of(v));
    } else {
      values[i] = v;
      device::fence();
      device::store_relaxed(words + i, 1);
    }
  }

  HONE_DEVICE Value wait(int64_t i) const {
    const uint64_t word = wait_for(words + i);
    if constexpr (kInWord) {
      return value_of(word);
    } else {
      device::fence();
      return values[i];
    }
  }

 private:
  using Trace = math::TraceMap<float>;
  static constexpr bool kInWord = std::is_same_v<Value, Trace> || std::is_same_v<Value, float>;

  HONE_DEVICE static uint64_t pack(float low, uint32_t high) {
    uint32_t bits;
    memcpy(&bits, &low, sizeof bits);
    return bits | static_cast<uint64_t>(high) << 32;
  }
  // Never 0: a scale is a product of numbers, never the NaN whose bits are all ones.
  HONE_DEVICE static uint64_t word_of(const Trace& map) {
    uint32_t scale;
    memcpy(&scale, &map.scale, sizeof scale);
    return pack(map.offset, ~scale);
  }
  HONE_DEVICE static uint64_t word_of(float state) { return pack(state, 1); }
  HONE_DEVICE static Value value_of(uint64_t word) {
    const auto low = static_cast<uint32_t>(word), high = ~static_cast<uint32_t>(word >> 32);
    Value out;
    memcpy(&out, &low, sizeof low);
    if constexpr (sizeof(Value) > sizeof low) memcpy(&out.scale, &high, sizeof high);
    return out;
  }
};

HONE_HD int64_t chain_groups(int64_t tiles) { return (tiles + kGroup - 1) / kGroup; }
HONE_HD int64_t chain_words(int64_t tiles) {
  return 1 + (1 + kSums) * (tiles + chain_groups(tiles));
}

template <class Rule>
struct TileChain {
  using Map = typename Rule::Map;
  using State = typename Rule::State;

  uint64_t* words;  // [chain_words(tiles)], zero before a launch and after it
  Map* maps;        // [tiles] by ticket
  State* states;    // [groups] after the last tile of a group
  int64_t tiles;

  HONE_DEVICE Posts<Map> tile_maps() const { return {words + 1, maps}; }
  HONE_DEVICE Posts<State> group_states() const { return {words + 1 + tiles, states}; }
  HONE_DEVICE uint64_t* tile_sums() const { return words + 1 + tiles + chain_groups(tiles); }
  HONE_DEVICE uint64_t* group_sums() const { return tile_sums() + kSums * tiles; }

  /// One thread of each of `tiles` blocks.
  HONE_DEVICE int64_t take_ticket() const {
    const auto ticket = static_cast<int64_t>(device::atomic_add_relaxed(words, 1));
    if (ticket == tiles - 1) device::store_relaxed(words, 0);  // nobody takes one after this
    return ticket;
  }
};

/// The state that enters the tile of `ticket`: a whole warp calls it, lane 0 has the result.
template <class Rule>
HONE_DEVICE typename Rule::State state_entering(const TileChain<Rule>& chain, int64_t ticket) {
  using Map = typename Rule::Map;
  const int64_t group = ticket / kGroup, first = group * kGroup;
  Map through = Rule::identity();  // of the tiles looked at so far
  bool found = false;
  for (int64_t end = ticket; end > first && !found; end -= device::kWarp) {
    const int64_t mine = end - 1 - device::lane();  // lane 0: the nearest, which is applied last
    const Map map = mine >= first ? chain.tile_maps().wait(mine) : Rule::identity();
    const unsigned constants = device::ballot(mine >= first && Rule::is_constant(map));
    const unsigned nearest = constants & (0u - constants), own = 1u << device::lane();
    const Map window = device::warp_reduce(
        constants == 0 || own <= nearest ? map : Rule::identity(),
        [](const Map& nearer, const Map& farther) { return math::compose(farther, nearer); });
    through = math::compose(window, through);
    found = constants != 0;
  }
  if (found || group == 0) return through(Rule::start(0));  // nothing after the stream
  return through(chain.group_states().wait(group - 1));
}

/// One thread. `left`: the state after the tile.
template <class Rule>
HONE_DEVICE void post_state(const TileChain<Rule>& chain, int64_t ticket,
                            const typename Rule::State& left) {
  if (ticket % kGroup == kGroup - 1) chain.group_states().post(ticket / kGroup, left);
}

/// Of one addend a thread, for sum thread_index() % kSums: the sum thread_index() % kSums, in the
/// first warp. All threads, with a barrier between two calls.
HONE_DEVICE double add_of_block(double mine) {
  HONE_SHARED(double, of_warp, kTileWarps* kSums);
  static_assert(kTileWarps * kSums == device::kWarp);
  const auto of_lanes = [](double v) {
    HONE_UNROLL
    for (int n = kSums; n < device::kWarp; n *= 2) v += device::shuffle_xor(v, n);
    return v;
  };
  mine = of_lanes(mine);
  const int lane = device::lane();
  if (lane < kSums) of_warp[device::warp_index() * kSums + lane] = mine;
  device::barrier();
  return device::warp_index() == 0 ? of_lanes(of_warp[lane]) : 0.0;
}

/// The sums over a warp of four numbers a lane: number lane() % kSums in each lane.
HONE_DEVICE double add_of_quads(double a, double b, double c, double d) {
  const bool odd = (device::lane() & 1) != 0, upper = (device::lane() & 2) != 0;
  const double kept = odd ? b : a, given = odd ? a : b;
  const double kept2 = odd ? d : c, given2 = odd ? c : d;
  const double low = kept + device::shuffle_xor(given, 1);
  const double high = kept2 + device::shuffle_xor(given2, 1);
  return (upper ? high : low) + device::shuffle_xor(upper ? low : high, 2);
}

/// Leaves the tile's sums, one in each of the first kSums lanes of the block; the last tile of a
/// group leaves the group's, the last of all stores the total. All threads.
template <class Rule>
HONE_DEVICE void add_up(const TileChain<Rule>& chain, int64_t ticket, double of_tile,
                        double* stats) {
  const int me = device::thread_index(), sum = me % kSums;
  if (me < kSums) post_sum(chain.tile_sums() + kSums * ticket + me, of_tile);
  const bool last = ticket == chain.tiles - 1;
  if (ticket % kGroup != kGroup - 1 && !last) return;

  const auto total_of = [&](const uint64_t* words, int64_t count) {
    double mine = 0;
    for (int64_t i = me / kSums; i < count; i += kTileThreads / kSums) {
      mine += wait_for_sum(words + kSums * i + sum);
    }
    device::barrier();
    return add_of_block(mine);
  };
  const auto clear = [&](uint64_t* words, int64_t count) {
    for (int64_t i = me; i < count; i += kTileThreads) device::store_relaxed(words + i, 0);
  };
  // A tile that has left its sums looks back no more.
  const int64_t group = ticket / kGroup, first = group * kGroup, count = ticket + 1 - first;
  const double of_group = total_of(chain.tile_sums() + kSums * first, count);
  if (me < kSums) post_sum(chain.group_sums() + kSums * group + me, of_group);
  clear(chain.tile_sums() + kSums * first, kSums * count);
  clear(chain.tile_maps().words + first, count);
  if (!last) return;
  const int64_t groups = chain_groups(chain.tiles);
  const double total = total_of(chain.group_sums(), groups);
  if (me < kSums) stats[me] = total;
  clear(chain.group_sums(), kSums * groups);
  clear(chain.group_states().words, groups);
}

}  // namespace hone::kernels::cuda
