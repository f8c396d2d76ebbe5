#pragma once

// Deterministic two-stage sums: a grid whose size depends on n only leaves one partial sum a block,
// one block adds the partial sums. No atomics; the same n gives the same order, hence the same
// bits.
//
// `Sums` has merge(const Sums&). `Element` is a POD functor `void operator()(Sums&, int64_t i)`
// that adds element i and may write its outputs. `Store` is a POD functor `void operator()(const
// Sums&)`.

#include <cstdint>
#include <cub/block/block_reduce.cuh>

namespace hone::kernels::cuda {

constexpr int kSumThreads = 256;
// 8 blocks of 256 threads fill an SM; 132 SMs (H100, H200) make 1056 blocks: one full wave there.
// The number is a constant so that results do not depend on the device.
constexpr int64_t kSumBlocks = 1056;

template <typename Sums>
struct MergeSums {
  __device__ Sums operator()(const Sums& a, const Sums& b) const {
    Sums out = a;
    out.merge(b);
    return out;
  }
};

template <typename Sums>
__device__ Sums block_sum(const Sums& mine) {
  using Reduce = cub::BlockReduce<Sums, kSumThreads>;
  __shared__ typename Reduce::TempStorage storage;
  return Reduce(storage).Reduce(mine, MergeSums<Sums>{});  // valid in thread 0
}

template <typename Sums, typename Element>
__global__ void __launch_bounds__(kSumThreads)
    partial_sums_kernel(Element element, int64_t n, Sums* partial) {
  Sums mine{};
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kSumThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kSumThreads + threadIdx.x; i < n;
       i += stride) {
    element(mine, i);
  }
  const Sums total = block_sum(mine);
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

template <typename Sums, typename Store>
__global__ void __launch_bounds__(kSumThreads)
    total_sum_kernel(const Sums* partial, int64_t count, Store store) {
  Sums mine{};
  for (int64_t i = threadIdx.x; i < count; i += kSumThreads) mine.merge(partial[i]);
  const Sums total = block_sum(mine);
  if (threadIdx.x == 0) store(total);
}

/// `partial` holds min(kSumBlocks, ceil(n / kSumThreads)) values. n = 0 stores a zero sum.
template <typename Sums, typename Element, typename Store>
cudaError_t launch_sum(const Element& element, int64_t n, Sums* partial, const Store& store,
                       cudaStream_t stream) {
  const int64_t wanted = (n + kSumThreads - 1) / kSumThreads;
  const int64_t blocks = wanted < kSumBlocks ? wanted : kSumBlocks;
  if (blocks > 0) {
    partial_sums_kernel<Sums>
        <<<static_cast<unsigned>(blocks), kSumThreads, 0, stream>>>(element, n, partial);
    const cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess) return error;
  }
  total_sum_kernel<Sums><<<1, kSumThreads, 0, stream>>>(partial, blocks, store);
  return cudaGetLastError();
}

}  // namespace hone::kernels::cuda
