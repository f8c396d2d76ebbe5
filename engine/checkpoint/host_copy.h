#pragma once

// Tensors into host memory beside a training that goes on, and with its help where it has to wait.

#include <ATen/core/Tensor.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

namespace hone::engine {

/// Copies flat tensors in chunks that any number of threads take one after another. Not with
/// at::copy_ on the CPU: its threads would stand in the way of the training's.
class HostCopy {
 public:
  explicit HostCopy(const std::vector<at::Tensor>& sources);
  /// Copies chunks until none is left, then waits for those that other threads have taken.
  void help();
  /// The copies, after help().
  std::vector<at::Tensor> take() { return std::move(copies_); }

 private:
  struct Chunk {
    at::Tensor from, to;
  };
  std::vector<at::Tensor> copies_;
  std::vector<Chunk> chunks_;
  std::atomic<size_t> next_{0};
  size_t done_ = 0;
  std::mutex lock_;
  std::condition_variable all_done_;
};

}  // namespace hone::engine
