#pragma once

// Items of very different cost (ragged sequences) over the threads of at::parallel_for. A thread
// takes the next item when it is done with one; which thread computes an item never changes its
// bits, because items share nothing.

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace hone::kernels {

/// `make_worker()` is called once a thread and returns a callable `worker(item)` that may own
/// scratch memory.
template <typename MakeWorker>
void parallel_items(int64_t items, const MakeWorker& make_worker) {
  if (items == 0) return;
  std::atomic<int64_t> next{0};
  const int64_t threads = std::min<int64_t>(items, at::get_num_threads());
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    if (begin == end) return;
    auto worker = make_worker();
    for (int64_t item = next++; item < items; item = next++) worker(item);
  });
}

}  // namespace hone::kernels
