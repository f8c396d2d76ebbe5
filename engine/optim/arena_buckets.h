#pragma once

// Pieces of an arena that travel between ranks, and who owns what of them. Gradients, their norm,
// the optimizer's state and parameters in parts all follow this one division.

#include <cstdint>
#include <vector>

#include "engine/distributed/shard_tree.h"
#include "engine/models/parameter_arena.h"

namespace hone::engine {

/// Elements [begin, end) of an arena.
struct ArenaInterval {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};

struct ArenaBucket {
  int64_t begin = 0, end = 0;
  int64_t grain = 0;  // elements of each logical shard's part; the last parts may be short or empty
  int64_t first_leaf = 0, end_leaf = 0;     // leaves that lie in it, wholly or partly
  int64_t first_block = -1, end_block = 0;  // blocks whose matrices lie in it; -1: none
  bool matrices = false;                    // not the vectors, whose gradients complete last

  int64_t size() const { return end - begin; }
  /// Elements of a rank's part.
  int64_t part(const ShardSpan& span) const { return grain * span.count(); }
  ArenaInterval part_of(int64_t rank, const ShardSpan& span) const;
};

/// Neighbouring buckets, [first, end), that hold whole blocks and nothing else.
struct BlockRun {
  size_t first = 0, end = 0;
  int64_t first_block = 0, end_block = 0;
};

/// The shortest such runs, rising, or with `together` the longest.
std::vector<BlockRun> block_runs(const std::vector<ArenaBucket>& buckets, bool together);

/// Buckets of at most `bucket_bytes` (as nearly as alignment to 64 bytes allows), rising, that
/// cover the arena. One holds matrices of blocks, other matrices or vectors, and never a part of a
/// block beside another block.
std::vector<ArenaBucket> cut_buckets(const ParameterArena& parameters, const ShardSpan& span,
                                     int64_t bucket_bytes);

}  // namespace hone::engine
