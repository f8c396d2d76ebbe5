#pragma once

// How the ranks of a run share an optimizer's work and memory.

#include <cstdint>

#include "engine/distributed/communicator.h"

namespace hone::engine {

struct RankPlan {
  Communicator* communicator = &world_of_one();
  int64_t shards = 1;  // logical shards of a step, of all ranks (shard_tree.h)
  /// What is kept in parts, one a rank (Rajbhandari et al. 2020, ZeRO): 0 nothing; 1 optimizer
  /// state; 2 gradients too; 3 parameters of the blocks too. All give the same bits.
  int64_t zero = 0;
  int64_t bucket_bytes = 16 << 20;  // gradients leave in buckets of about this size
};

}  // namespace hone::engine
