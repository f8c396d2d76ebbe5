#pragma once

// Work of a GPU recorded once and repeated with one launch (a CUDA graph): a decode step of many
// layers is hundreds of short kernels, and the host needs longer to launch them than they take.

#include <functional>
#include <memory>

namespace hone::engine {

class RecordedWork {
 public:
  virtual ~RecordedWork() = default;
  /// On the current stream; reads and writes the memory that `work` did.
  virtual void replay() = 0;
};

/// What `work` asks of the GPU, which it does not do yet. `work` has run before, so that all it
/// needs is loaded; it neither waits for the GPU nor moves memory to or from the host, and what it
/// allocates is used by nobody after it. Throws what `work` throws, c10::Error when it cannot be
/// recorded.
std::unique_ptr<RecordedWork> record_work(const std::function<void()>& work);

}  // namespace hone::engine
