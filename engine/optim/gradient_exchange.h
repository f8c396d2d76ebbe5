#pragma once

// From the gradients of every logical shard to their sum, each rank holding its part: the local
// shards are summed as a tree, then bucket by bucket an all-to-all brings every rank's share of a
// part to its owner, who sums them as the same tree goes on. Buckets leave during the last backward
// pass, in the order in which it completes them.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "engine/distributed/shard_tree.h"
#include "engine/models/parameter_arena.h"
#include "engine/optim/arena_buckets.h"
#include "engine/optim/rank_plan.h"

namespace hone::engine {

class GradientExchange {
 public:
  GradientExchange(ParameterArena& parameters, const RankPlan& plan);
  ~GradientExchange();
  GradientExchange(const GradientExchange&) = delete;
  GradientExchange& operator=(const GradientExchange&) = delete;

  const ShardSpan& span() const { return span_; }
  /// Just before the last backward pass of the last of this rank's shards: what that pass completes
  /// may leave at once. Without this call everything leaves in finish().
  void expect_last_backward();
  /// The arena holds the gradient of this rank's next shard.
  void end_shard();
  /// Returns when this rank's parts are summed.
  void finish();

  /// Which elements this rank sums, rising, one interval a bucket (some empty); after finish(), the
  /// sums.
  const std::vector<ArenaInterval>& owned() const { return owned_; }
  at::Tensor sum_of(size_t bucket) const;
  /// Sums of squares of this rank's grains, bucket by bucket. A bucket has as many grains as there
  /// are logical shards, so that a norm made of them does not depend on the number of ranks.
  std::vector<double> grain_squares() const;
  /// The sum of every rank's grain_squares(), gathered in the order of ranks, as the tree of no
  /// rank: in the order of the arena.
  double total_square(const std::vector<std::vector<double>>& by_rank) const;
  /// Whether every gradient that this rank brought was finite.
  bool finite() const { return finite_; }

  /// Brings every rank's sums to all, into the arena's gradients; of everything, or of some
  /// buckets.
  void gather_sums();
  void gather_sums(size_t first_bucket, size_t end_bucket);
  const std::vector<ArenaBucket>& buckets() const { return buckets_; }
  /// Seconds spent waiting for other ranks since the last call.
  double waited();

 private:
  struct Flight {
    size_t bucket = 0;
    at::Tensor sent, received;
    Pending pending;
  };
  class LeafHook;

  void leaf_done(int64_t leaf);
  void leave(size_t bucket);
  void land();
  void agree_on_order();

  ParameterArena& parameters_;
  RankPlan plan_;
  ShardSpan span_;
  std::vector<ArenaBucket> buckets_;
  std::vector<int64_t> missing_;                         // leaves that the running pass still owes
  std::vector<std::pair<size_t, size_t>> leaf_buckets_;  // first and past the last, of each leaf
  std::vector<ArenaInterval> owned_;
  std::vector<int64_t> places_;  // of each bucket's part in sums_
  at::Tensor sums_;
  TreeSum tree_;
  std::vector<size_t> order_, completed_;
  size_t next_ = 0;
  bool armed_ = false, order_agreed_ = false, finite_ = true;
  std::deque<Flight> flights_;
  double waited_ = 0;
};

}  // namespace hone::engine
