#include "kernels/recycled.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/impl/alloc_cpu.h>
#include <c10/util/accumulate.h>

#include <cstddef>
#include <map>
#include <mutex>

namespace hone::kernels {
namespace {

constexpr size_t kSmallest = 1 << 20, kMostWaiting = 128 << 20;

class Blocks {
 public:
  struct Block {
    void* data;
    size_t bytes;
  };

  /// Of `bytes` to 1.25 times as many.
  Block take(size_t bytes) {
    {
      const std::lock_guard lock(mutex_);
      const auto found = waiting_.lower_bound(bytes);
      if (found != waiting_.end() && found->first <= bytes + bytes / 4) {
        const Block block{found->second, found->first};
        waiting_.erase(found);
        waiting_bytes_ -= block.bytes;
        return block;
      }
    }
    return {c10::alloc_cpu(bytes), bytes};
  }

  void give(Block block) {
    {
      const std::lock_guard lock(mutex_);
      if (waiting_bytes_ + block.bytes <= kMostWaiting) {
        waiting_.emplace(block.bytes, block.data);
        waiting_bytes_ += block.bytes;
        return;
      }
    }
    c10::free_cpu(block.data);
  }

 private:
  std::mutex mutex_;
  std::multimap<size_t, void*> waiting_;
  size_t waiting_bytes_ = 0;
};

/// Never destroyed: tensors may outlive every static object.
Blocks& blocks() {
  static auto* const only = new Blocks;
  return *only;
}

}  // namespace

at::Tensor recycled_empty(at::IntArrayRef sizes, const at::TensorOptions& options) {
  const size_t bytes =
      static_cast<size_t>(c10::multiply_integers(sizes)) * options.dtype().itemsize();
  if (!options.device().is_cpu() || bytes < kSmallest) return at::empty(sizes, options);
  const Blocks::Block block = blocks().take(bytes);
  return at::from_blob(
      block.data, sizes, [block](void*) { blocks().give(block); }, options);
}

}  // namespace hone::kernels
