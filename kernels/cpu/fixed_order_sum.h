#pragma once

// Parallel sums whose value does not depend on the number of threads: the range is cut into blocks
// of a fixed size, each block is summed in order, and the blocks are merged in order.

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace hone::kernels {

/// Elements of a block: partial sums cost 1/1024 of the work; 64 elements are too few.
constexpr int64_t kSumBlock = 1024;

/// `Sums` is value-initialised to zero and has merge(const Sums& later). `add(sums, begin, end)`
/// adds the elements [begin, end) to `sums`; it may also write outputs of those elements.
template <typename Sums, typename Add>
Sums sum_in_blocks(int64_t n, const Add& add) {
  constexpr int64_t kGrain = 16;  // 16k elements are what a thread is worth waking for
  const int64_t blocks = (n + kSumBlock - 1) / kSumBlock;
  std::vector<Sums> partial(static_cast<size_t>(blocks));
  at::parallel_for(0, blocks, kGrain, [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; ++b) {
      Sums mine{};  // in registers
      add(mine, b * kSumBlock, std::min(n, (b + 1) * kSumBlock));
      partial[static_cast<size_t>(b)] = mine;
    }
  });
  Sums total{};
  for (const Sums& p : partial) total.merge(p);
  return total;
}

}  // namespace hone::kernels
