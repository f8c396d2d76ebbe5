#pragma once

// Two networks side by side. At the sizes of a small policy the threads of one GEMM wait for each
// other more than they compute; actor and critic are independent, so each gets half of the cores.

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

namespace hone::engine {

/// Runs independent tasks on two threads with half of the caller's intra-op threads each, or, with
/// one intra-op thread or `enabled` false, in the calling thread. Which thread runs a task does not
/// change its result: both have the same number of intra-op threads.
class Lanes {
 public:
  explicit Lanes(bool enabled);
  ~Lanes();
  Lanes(const Lanes&) = delete;
  Lanes& operator=(const Lanes&) = delete;

  /// Returns when every task is done; rethrows the first exception (in the order of the tasks).
  void run(const std::vector<std::function<void()>>& tasks);

 private:
  struct Workers;
  std::unique_ptr<Workers> workers_;
};

}  // namespace hone::engine
