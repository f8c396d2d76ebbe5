#include "engine/optim/arena_buckets.h"

#include <algorithm>

namespace hone::engine {
namespace {

constexpr int64_t kElements = 16;  // parts start at multiples of 64 bytes of float32

/// What is not torn apart as long as it fits into a bucket: a block's matrices, another matrix, all
/// vectors.
struct Unit {
  int64_t begin, end, first_leaf, end_leaf, block;
  bool matrices;
};

std::vector<Unit> units_of(const ParameterArena& parameters) {
  const auto& leaves = parameters.leaves();
  std::vector<Unit> units;
  for (size_t i = 0; i < leaves.size(); ++i) {
    const auto& leaf = leaves[i];
    const int64_t end = i + 1 < leaves.size() ? leaves[i + 1].offset : parameters.data().numel();
    const auto index = static_cast<int64_t>(i);
    const bool goes_on =
        !units.empty() && (leaf.in_block() ? units.back().block == leaf.block
                                           : !leaf.decay && !units.back().matrices);
    if (!goes_on) units.push_back({leaf.offset, end, index, index + 1, leaf.block, leaf.decay});
    units.back().end = end;
    units.back().end_leaf = index + 1;
  }
  return units;
}

bool same_kind(const ArenaBucket& bucket, const Unit& unit) {
  return bucket.matrices == unit.matrices && (bucket.first_block < 0) == (unit.block < 0);
}

/// A unit that is too large for one bucket, in equal pieces.
void cut_unit(const Unit& unit, int64_t most, const ParameterArena& parameters,
              std::vector<ArenaBucket>& buckets) {
  const int64_t size = unit.end - unit.begin, pieces = (size + most - 1) / most;
  const int64_t step = (size + pieces * kElements - 1) / (pieces * kElements) * kElements;
  const auto& leaves = parameters.leaves();
  for (int64_t begin = unit.begin; begin < unit.end; begin += step) {
    ArenaBucket bucket{.begin = begin, .end = std::min(unit.end, begin + step)};
    bucket.first_leaf = unit.end_leaf;
    for (int64_t i = unit.first_leaf; i < unit.end_leaf; ++i) {
      const auto& leaf = leaves[static_cast<size_t>(i)];
      if (leaf.offset >= bucket.end || leaf.offset + leaf.numel <= bucket.begin) continue;
      bucket.first_leaf = std::min(bucket.first_leaf, i);
      bucket.end_leaf = i + 1;
    }
    bucket.matrices = unit.matrices;
    bucket.first_block = unit.block;
    bucket.end_block = unit.block + 1;
    buckets.push_back(bucket);
  }
}

}  // namespace

ArenaInterval ArenaBucket::part_of(int64_t rank, const ShardSpan& span) const {
  const int64_t from = std::min(end, begin + rank * part(span));
  return {from, std::min(end, from + part(span))};
}

std::vector<BlockRun> block_runs(const std::vector<ArenaBucket>& buckets, bool together) {
  std::vector<BlockRun> runs;
  for (size_t b = 0; b < buckets.size(); ++b) {
    const auto& bucket = buckets[b];
    if (bucket.first_block < 0) continue;
    const bool follows = !runs.empty() && runs.back().end == b;
    if (follows && (together || bucket.first_block < runs.back().end_block)) {
      runs.back().end = b + 1;
      runs.back().end_block = bucket.end_block;
    } else {
      runs.push_back({b, b + 1, bucket.first_block, bucket.end_block});
    }
  }
  return runs;
}

std::vector<ArenaBucket> cut_buckets(const ParameterArena& parameters, const ShardSpan& span,
                                     int64_t bucket_bytes) {
  const int64_t most =
      std::max(kElements, bucket_bytes / static_cast<int64_t>(parameters.data().element_size()));
  std::vector<ArenaBucket> buckets;
  bool open = false;  // the last bucket may take more
  for (const auto& unit : units_of(parameters)) {
    if (unit.end - unit.begin > most) {
      cut_unit(unit, most, parameters, buckets);
      open = false;
      continue;
    }
    if (!open || !same_kind(buckets.back(), unit) || unit.end - buckets.back().begin > most) {
      buckets.push_back({.begin = unit.begin, .first_leaf = unit.first_leaf});
      buckets.back().matrices = unit.matrices;
      buckets.back().first_block = unit.block;
    }
    buckets.back().end = unit.end;
    buckets.back().end_leaf = unit.end_leaf;
    buckets.back().end_block = unit.block + 1;
    open = true;
  }
  for (auto& bucket : buckets) {
    const int64_t whole = kElements * span.shards;
    bucket.grain = (bucket.size() + whole - 1) / whole * kElements;
  }
  return buckets;
}

}  // namespace hone::engine
