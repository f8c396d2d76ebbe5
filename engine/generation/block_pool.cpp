#include "engine/generation/block_pool.h"

#include "data/error.h"

namespace hone::engine {

BlockPool::BlockPool(int64_t blocks) : users_(static_cast<size_t>(blocks), 0) {
  free_.reserve(static_cast<size_t>(blocks));
  for (int64_t block = blocks - 1; block >= 0; --block) {
    free_.push_back(static_cast<int32_t>(block));
  }
}

int32_t BlockPool::take() {
  if (free_.empty()) throw data::Error("KV cache", "blocks", "a free one", "none");
  const int32_t block = free_.back();
  free_.pop_back();
  users_[static_cast<size_t>(block)] = 1;
  return block;
}

void BlockPool::release(int32_t block) {
  if (--users_[static_cast<size_t>(block)] == 0) free_.push_back(block);
}

}  // namespace hone::engine
