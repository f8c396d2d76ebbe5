#pragma once

// One stack that can be left and entered again: what a thread of a kernel runs on. x86-64, System
// V.

#include <cstddef>
#include <vector>

namespace hone::fiber {

/// Stacks with a guard page below each, reused from launch to launch.
class StackPool {
 public:
  static constexpr size_t kBytes = 128 * 1024;

  ~StackPool();
  /// The high end of a free stack.
  void* take();
  void give(void* top) { free_.push_back(top); }

 private:
  std::vector<void*> free_, all_;
};

/// Saves the running context to *from and continues `to`.
extern "C" void hone_fiber_switch(void** from, void* to);

/// A context that calls entry(), which must never return, on the stack that ends at `top`.
void* prepare_context(void* top, void (*entry)());

}  // namespace hone::fiber
