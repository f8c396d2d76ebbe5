#pragma once

// A reverse scan over tiles inside one launch, after decoupled look-back (Merrill & Garland 2016),
// but with the same bits every time: what a tile waits for and the order in which it composes maps
// depend on the data alone, never on which block was faster.
//
// A block takes a ticket; ticket 0 is the last tile of the stream. Whoever holds a lower ticket has
// already started, so waiting for it ends: a tile publishes its map before it waits for anything.
// Tickets come in groups of kGroup. What enters a tile is found from the nearest tile of its group
// whose map is constant (a row ends in it), or else from the state that the group before left.

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/device/collectives.h"
#include "kernels/math/gae.h"
#include "kernels/math/vtrace.h"

namespace hone::kernels::cuda {

constexpr int64_t kGroup = 128;  // the chain of group states is so much shorter than the tiles

/// Values that blocks leave for others, each once: words[i] is 0 until then. Those of float GAE are
/// the word itself, which saves the writer a fence and the reader a second trip to memory.
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
    uint64_t word = device::load_relaxed(words + i);
    while (word == 0) {
      device::pause();
      word = device::load_relaxed(words + i);
    }
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

/// `words`: zero before a launch, zero again after it.
template <class Rule>
struct TileChain {
  using Map = typename Rule::Map;
  using State = typename Rule::State;

  uint64_t* words;  // [chain_words(tiles)]: ticket, tiles done, one a tile, one a group
  Map* maps;        // [tiles] by ticket
  State* states;    // [groups] after the last tile of a group
  int64_t tiles;

  HONE_HD uint64_t* ticket() const { return words; }
  HONE_HD uint64_t* done() const { return words + 1; }
  HONE_HD Posts<Map> tile_maps() const { return {words + 2, maps}; }
  HONE_HD Posts<State> group_states() const { return {words + 2 + tiles, states}; }
};

HONE_HD int64_t chain_groups(int64_t tiles) { return (tiles + kGroup - 1) / kGroup; }
HONE_HD int64_t chain_words(int64_t tiles) { return 2 + tiles + chain_groups(tiles); }

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
HONE_DEVICE void publish_state(const TileChain<Rule>& chain, int64_t ticket,
                               const typename Rule::State& left) {
  if (ticket % kGroup == kGroup - 1) chain.group_states().post(ticket / kGroup, left);
}

}  // namespace hone::kernels::cuda
