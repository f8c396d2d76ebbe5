#pragma once

// Deterministic two-stage sums: a grid whose size depends on n only leaves one partial sum a block,
// one block adds the partial sums. No atomics; the same n gives the same order, hence the same
// bits.
//
// `Sums` has merge(const Sums&). `Element` is a POD functor `void operator()(Sums&, int64_t i)`
// that adds element i and may write its outputs. `Store` is a POD functor `void operator()(const
// Sums&)`.
//
// launch_sum_of_runs: the same for elements in runs of `kRun`, so that a thread moves 16 bytes an
// operand and has several operands in flight. Its functor has `static constexpr int kRun`,
// `static constexpr int kResident` (blocks that an SM holds: 65536 / 256 / kResident registers a
// thread; the grid is two full waves of those on 132 SMs) and
//
//   template <bool kWhole> void operator()(Sums&, int64_t i, int count) const
//
// for the elements i .. i+count, where kWhole says that there are kRun of them and that vectors may
// start there (load_run and store_run of element_vectors.cuh take both). Sums within a run are the
// functor's business; the order of the runs is the same for every alignment.

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

template <typename Sums, typename Run>
HONE_KERNEL_RESIDENT(kSumThreads, Run::kResident)
partial_sums_of_runs_kernel(Run run, int64_t n, bool aligned, Sums* partial) {
  constexpr int N = Run::kRun;
  Sums mine{};
  const int64_t stride = device::grid_blocks() * kSumThreads * N;
  int64_t i = (device::block_index() * kSumThreads + device::thread_index()) * N;
  if (aligned) {
    for (; i + N <= n; i += stride) run.template operator()<true>(mine, i, N);
  }
  for (; i < n; i += stride) {
    run.template operator()<false>(mine, i, n - i < N ? static_cast<int>(n - i) : N);
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

/// The sum of what `blocks` blocks left.
template <typename Sums, typename Store>
cudaError_t launch_total(const Sums* partial, int64_t blocks, const Store& store,
                         cudaStream_t stream) {
  return device::launch(total_sum_kernel<Sums, Store>, 1, kSumThreads, 0, stream, partial, blocks,
                        store);
}

/// `partial` holds min(kSumBlocks, ceil(n / kSumThreads)) values. n = 0 stores a zero sum.
template <typename Sums, typename Element, typename Store>
cudaError_t launch_sum(const Element& element, int64_t n, Sums* partial, const Store& store,
                       cudaStream_t stream) {
  const int64_t blocks = std::min((n + kSumThreads - 1) / kSumThreads, kSumBlocks);
  const cudaError_t error = device::launch(partial_sums_kernel<Sums, Element>, blocks, kSumThreads,
                                           0, stream, element, n, partial);
  if (error != cudaSuccess) return error;
  return launch_total(partial, blocks, store, stream);
}

/// The same for runs; aligned: vectors of kRun may start at every run.
template <typename Sums, typename Run, typename Store>
cudaError_t launch_sum_of_runs(const Run& run, int64_t n, bool aligned, Sums* partial,
                               const Store& store, cudaStream_t stream) {
  constexpr int64_t kElements = int64_t{kSumThreads} * Run::kRun;
  constexpr int64_t kBlocks = 2 * 132 * Run::kResident;
  static_assert(kBlocks <= kSumBlocks, "workspaces hold kSumBlocks partial sums");
  const int64_t blocks = std::min((n + kElements - 1) / kElements, kBlocks);
  const cudaError_t error = device::launch(partial_sums_of_runs_kernel<Sums, Run>, blocks,
                                           kSumThreads, 0, stream, run, n, aligned, partial);
  if (error != cudaSuccess) return error;
  return launch_total(partial, blocks, store, stream);
}

}  // namespace hone::kernels::cuda
