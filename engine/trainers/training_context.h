#pragma once

// What every trainer is handed besides its own task.

#include <cstdint>

#include "engine/checkpoint/checkpointer.h"
#include "engine/distributed/communicator.h"
#include "engine/distributed/shard_tree.h"
#include "engine/metrics/metrics.h"
#include "engine/optim/rank_plan.h"

namespace hone::engine {

struct TrainingContext {
  /// Not explicit: where there is one rank and nothing to keep, metrics are all a trainer needs.
  TrainingContext(Metrics& where, Communicator& ranks = world_of_one())  // NOLINT
      : metrics(where), communicator(ranks) {}

  Metrics& metrics;
  Communicator& communicator;
  /// Parts that an optimizer step's work is cut into and whose gradients are summed as one fixed
  /// tree: results depend on this number and not on how many ranks share the parts.
  int64_t shards = 1;
  /// Saves and resumes; null: nothing is saved.
  Checkpointer* checkpointer = nullptr;
  int64_t zero = 0;                 // RankPlan::zero
  bool frozen_in_parts = false;     // models that are not trained are held as in stage 3
  int64_t bucket_bytes = 16 << 20;  // RankPlan::bucket_bytes

  ShardSpan span() const { return shard_span(communicator, shards); }
  /// The plan of an optimizer whose collectives go through `ranks`.
  RankPlan plan(Communicator& ranks) const { return {&ranks, shards, zero, bucket_bytes}; }
};

}  // namespace hone::engine
