#pragma once

// Deterministic two-stage sums: a grid whose size depends on n only leaves one partial sum a block,
// one block adds the partial sums. No atomics; the same n gives the same order, hence the same
// bits.
//
// `Sums` has merge(const Sums&). `Element` is a POD functor `void operator()(Sums&, int64_t i)`
// that adds element i and may write its outputs. `Store` is a POD functor `void operator()(const
// Sums&)`.

#include <algorithm>
#include <cstdint>

#include "kernels/device/collectives.h"
#include "kernels/device/runtime.h"

namespace hone::kernels::cuda {

constexpr int kSumThreads = 256;
// 8 blocks of 256 threads fill an SM; 132 SMs (H100, H200) make 1056 blocks: one full wave there.
// The number is a constant so that results do not depend on the device.
constexpr int64_t kSumBlocks = 1056;

template <typename Sums>
struct MergeSums {
  HONE_DEVICE Sums operator()(const Sums& a, const Sums& b) const {
    Sums out = a;
    out.merge(b);
    return out;
  }
};

template <typename Sums>
HONE_DEVICE Sums block_sum(const Sums& mine) {
  return device::block_reduce<kSumThreads>(mine, MergeSums<Sums>{});
}

template <typename Sums, typename Element>
HONE_KERNEL(kSumThreads)
partial_sums_kernel(Element element, int64_t n, Sums* partial) {
  Sums mine{};
  const int64_t stride = device::grid_blocks() * kSumThreads;
  for (int64_t i = device::block_index() * kSumThreads + device::thread_index(); i < n;
       i += stride) {
    element(mine, i);
  }
  const Sums total = block_sum(mine);
  if (device::thread_index() == 0) partial[device::block_index()] = total;
}

template <typename Sums, typename Store>
HONE_KERNEL(kSumThreads)
total_sum_kernel(const Sums* partial, int64_t count, Store store) {
  Sums mine{};
  for (int64_t i = device::thread_index(); i < count; i += kSumThreads) mine.merge(partial[i]);
  const Sums total = block_sum(mine);
  if (device::thread_index() == 0) store(total);
}

/// `partial` holds min(kSumBlocks, ceil(n / kSumThreads)) values. n = 0 stores a zero sum.
template <typename Sums, typename Element, typename Store>
cudaError_t launch_sum(const Element& element, int64_t n, Sums* partial, const Store& store,
                       cudaStream_t stream) {
  const int64_t blocks = std::min((n + kSumThreads - 1) / kSumThreads, kSumBlocks);
  const cudaError_t error = device::launch(partial_sums_kernel<Sums, Element>, blocks, kSumThreads,
                                           0, stream, element, n, partial);
  if (error != cudaSuccess) return error;
  return device::launch(total_sum_kernel<Sums, Store>, 1, kSumThreads, 0, stream, partial, blocks,
                        store);
}

}  // namespace hone::kernels::cuda
