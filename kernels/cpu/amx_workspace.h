#pragma once

// Memory of one thread for the matrix unit's operands, kept from call to call: fresh pages would
// cost more than a pass. Aligned to cache lines.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace hone::kernels {

struct alignas(64) CacheLine {
  uint16_t elements[32];
};

/// One at a time in a thread: a second one would hand out the first one's memory.
class AmxWorkspace {
 public:
  /// Room for `bytes` in at most 64 pieces.
  explicit AmxWorkspace(int64_t bytes) {
    static thread_local std::vector<CacheLine> lines;
    const auto needed = static_cast<size_t>(bytes / 64 + 64);
    if (lines.size() < needed) lines.resize(needed);
    next_ = reinterpret_cast<char*>(lines.data());
  }
  /// Contents undefined.
  template <typename E>
  E* take(int64_t count) {
    E* at = reinterpret_cast<E*>(next_);
    next_ += (count * static_cast<int64_t>(sizeof(E)) + 63) / 64 * 64;
    return at;
  }

 private:
  char* next_;
};

}  // namespace hone::kernels
