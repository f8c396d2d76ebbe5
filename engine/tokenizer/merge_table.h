#pragma once

#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

namespace hone::engine {

/// Merges of a BPE model: rank of a pair of ids (its place in the list), result of a rank.
class MergeTable {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  explicit MergeTable(size_t merges = 0)
      : slots_(std::bit_ceil(2 * merges + 2)), shift_(64 - std::bit_width(slots_.size() - 1)) {
    results_.reserve(merges);
  }

  /// A pair given twice has the later rank, as `tokenizers` has it.
  void add(int32_t left, int32_t right, int32_t result) {
    Slot& slot = find(key(left, right));
    slot = {key(left, right), static_cast<uint32_t>(results_.size())};
    results_.push_back(result);
  }

  uint32_t rank(int32_t left, int32_t right) const {
    return const_cast<MergeTable*>(this)->find(key(left, right)).rank;
  }
  int32_t result(uint32_t rank) const { return results_[rank]; }
  size_t size() const { return results_.size(); }

 private:
  struct Slot {
    uint64_t key = 0;
    uint32_t rank = kNone;  // kNone = free
  };
  static uint64_t key(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }
  Slot& find(uint64_t wanted) {
    const size_t mask = slots_.size() - 1;
    // Fibonacci hashing: the high bits of the product depend on all bits of the key.
    size_t at = (wanted ^ wanted >> 32) * 0x9E3779B97F4A7C15u >> shift_;
    while (slots_[at].rank != kNone && slots_[at].key != wanted) at = (at + 1) & mask;
    return slots_[at];
  }

  std::vector<Slot> slots_;
  int shift_;
  std::vector<int32_t> results_;
};

}  // namespace hone::engine
