#pragma once

// A reverse scan over tiles inside one launch, after decoupled look-back (Merrill & Garland 2016),
// but with the same bits every time: what a tile waits for and the order in which it composes maps
// depend on the data alone, never on which block was faster.
//
// A block takes a ticket; ticket 0 is the last tile of the stream. Whoever holds a lower ticket has
// already started, so waiting for it ends: a tile publishes its map before it waits for anything.
// Tickets come in groups of kGroup. What enters a tile is found from the nearest tile of its group
// in which a row ends (its map is constant), or else from the state that the group before left.

#include <cstdint>

#include "kernels/device/collectives.h"
#include "kernels/math/gae.h"
#include "kernels/math/vtrace.h"

namespace hone::kernels::cuda {

constexpr int64_t kGroup = 128;  // the chain of group states is so much shorter than the tiles

/// `words`: zero before a launch, zero again after it.
template <class Rule>
struct TileChain {
  using Map = typename Rule::Map;
  using State = typename Rule::State;

  unsigned* words;  // [chain_words(tiles)]: ticket, tiles done, a flag a tile, a flag a group
  Map* maps;        // [tiles] by ticket
  State* states;    // [groups] after the last tile of a group
  int64_t tiles;

  HONE_HD unsigned* ticket() const { return words; }
  HONE_HD unsigned* done() const { return words + 1; }
  HONE_HD unsigned* tile_flag(int64_t ticket) const { return words + 2 + ticket; }
  HONE_HD unsigned* group_flag(int64_t group) const { return words + 2 + tiles + group; }
};

HONE_HD int64_t chain_groups(int64_t tiles) { return (tiles + kGroup - 1) / kGroup; }
HONE_HD int64_t chain_words(int64_t tiles) { return 2 + tiles + chain_groups(tiles); }

enum TileFlag : unsigned { kNothing = 0, kOpen = 1, kConstant = 2 };

template <class Rule>
struct Compose {
  using Map = typename Rule::Map;

  /// Of threads in rank order, the latest time first.
  HONE_DEVICE Map operator()(const Map& later, const Map& earlier) const {
    return math::compose(later, earlier);
  }
};

HONE_DEVICE unsigned wait_for(const unsigned* flag) {
  unsigned seen = device::load_acquire(flag);
  while (seen == kNothing) {
    device::pause();
    seen = device::load_acquire(flag);
  }
  return seen;
}

/// One thread.
template <class Rule>
HONE_DEVICE void publish_map(const TileChain<Rule>& chain, int64_t ticket,
                             const typename Rule::Map& map, bool constant) {
  chain.maps[ticket] = map;
  device::store_release(chain.tile_flag(ticket),
                        static_cast<unsigned>(constant ? kConstant : kOpen));
}

/// The state that enters the tile of `ticket`: a whole warp calls it, lane 0 has the result.
template <class Rule>
HONE_DEVICE typename Rule::State state_entering(const TileChain<Rule>& chain, int64_t ticket) {
  using Map = typename Rule::Map;
  const int64_t group = ticket / kGroup, first = group * kGroup;
  Map through = Rule::identity();  // of the tiles looked at so far
  bool found = false;
  for (int64_t end = ticket; end > first && !found; end -= device::kWarp) {
    const int64_t mine = end - 1 - device::lane();  // lane 0: the nearest, which is applied last
    const unsigned flag = mine >= first ? wait_for(chain.tile_flag(mine)) : kNothing;
    const unsigned constants = device::ballot(flag == kConstant);
    const unsigned nearest = constants & (0u - constants), own = 1u << device::lane();
    const bool counts = mine >= first && (constants == 0 || own <= nearest);
    const Map map = counts ? chain.maps[mine] : Rule::identity();
    const Map window = device::warp_reduce(
        map, [](const Map& nearer, const Map& farther) { return math::compose(farther, nearer); });
    through = math::compose(window, through);
    found = constants != 0;
  }
  if (found || group == 0) return through(Rule::start(0));  // nothing after the stream
  wait_for(chain.group_flag(group - 1));
  return through(chain.states[group - 1]);
}

/// One thread. `left`: the state after the tile.
template <class Rule>
HONE_DEVICE void publish_state(const TileChain<Rule>& chain, int64_t ticket,
                               const typename Rule::State& left) {
  if (ticket % kGroup != kGroup - 1) return;
  chain.states[ticket / kGroup] = left;
  device::store_release(chain.group_flag(ticket / kGroup), 1u);
}

}  // namespace hone::kernels::cuda
