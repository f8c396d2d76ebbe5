#pragma once

// Which blocks of a KV cache are free, and how many rows read the others.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace hone::engine {

class BlockPool {
 public:
  explicit BlockPool(int64_t blocks);
  /// A block with one user. The pool is made large enough: none left is a defect (throws).
  int32_t take();
  void share(int32_t block) { ++users_[static_cast<std::size_t>(block)]; }
  void release(int32_t block);
  int64_t available() const { return static_cast<int64_t>(free_.size()); }

 private:
  std::vector<int32_t> free_;   // taken from the back: a block just freed is still in the caches
  std::vector<int32_t> users_;  // per block
};

}  // namespace hone::engine
