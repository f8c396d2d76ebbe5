#pragma once

// Logical shards. An optimizer step's work is cut into a fixed number of parts; ranks compute equal
// contiguous blocks of them, and whatever is summed over parts is summed as one binary tree whose
// shape is a matter of that number alone. So results have the same bits on any number of ranks.
//
// The tree over n parts: left the largest power of two below n, right the rest. A rank's block is a
// whole subtree because blocks are of a power of two.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "engine/distributed/communicator.h"

namespace hone::engine {

struct ShardSpan {
  int64_t shards = 1;          // of all ranks
  int64_t begin = 0, end = 1;  // this rank's
  int64_t count() const { return end - begin; }
};

/// This rank's shards. Throws data::InputError unless the ranks divide `shards` and, when there are
/// several, each gets a power of two.
ShardSpan shard_span(const Communicator& communicator, int64_t shards);

/// Adds parts that come one after another, in the tree's shape, holding as few as it can.
class TreeSum {
 public:
  /// Takes part number parts() out of `values`, which is then free for the next.
  void push(const at::Tensor& values);
  /// Adds everything pushed to the last part, `values`, over elements [begin, begin + size).
  void fold(const at::Tensor& values, int64_t begin, int64_t size) const;
  void clear();
  int64_t parts() const { return parts_; }

 private:
  int64_t parts_ = 0;
  std::vector<at::Tensor> held_, spare_;
};

/// The tree's sum of parts [n, ...] along dimension 0, into parts[0].
void tree_sum_(const at::Tensor& parts);

/// Every rank has filled in other elements and left zeros elsewhere: all get every element, bit by
/// bit.
void share_disjoint(Communicator& communicator, const at::Tensor& values, const char* what);

/// Every shard's numbers, in the order of the shards: `mine` holds as many for each of this rank's.
std::vector<double> gather_shards(Communicator& communicator, const std::vector<double>& mine,
                                  const char* what);

}  // namespace hone::engine
