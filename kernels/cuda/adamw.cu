// AdamW over all slices of an arena in one launch, and the norm of a gradient arena.

#include <algorithm>
#include <cmath>

#include "kernels/cuda/fixed_order_sum.cuh"
#include "kernels/cuda/model_launchers.h"

namespace hone::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kElementsPerBlock = 4 * kThreads;

/// Index of the slice that holds element i: the last one that begins at or before it.
HONE_DEVICE int64_t find_slice(const int64_t* offsets, int64_t slices, int64_t i) {
  int64_t low = 0, high = slices - 1;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    if (offsets[middle] <= i) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

template <typename T>
HONE_KERNEL(kThreads)
adamw_kernel(AdamWArgs<T> a) {
  const int64_t first = a.begin + device::block_index() * kElementsPerBlock;
  const int64_t last = std::min(first + kElementsPerBlock, a.end);
  const T scale = static_cast<T>(*a.grad_scale);
  int64_t slice = find_slice(a.offsets, a.slices, first);
  for (int64_t i = first + device::thread_index(); i < last; i += kThreads) {
    while (i >= a.offsets[slice + 1]) ++slice;
    math::adamw_element(a.param[i], a.grad[i] * scale, a.m[i], a.v[i], a.coefficients[slice]);
  }
}

struct SquareSum {
  double sum = 0;
  HONE_DEVICE void merge(const SquareSum& later) { sum += later.sum; }
};

template <typename T>
struct AddSquare {
  const T* x;
  HONE_DEVICE void operator()(SquareSum& total, int64_t i) const {
    const double value = x[i];
    total.sum += value * value;
  }
};

struct StoreNorm {
  double* norm;
  HONE_DEVICE void operator()(const SquareSum& total) const { *norm = std::sqrt(total.sum); }
};

}  // namespace

template <typename T>
cudaError_t launch_adamw(const AdamWArgs<T>& args, cudaStream_t stream) {
  if (args.end <= args.begin) return cudaSuccess;
  const int64_t blocks = (args.end - args.begin + kElementsPerBlock - 1) / kElementsPerBlock;
  return device::launch(adamw_kernel<T>, blocks, kThreads, 0, stream, args);
}

size_t grad_norm_workspace_bytes() { return kSumBlocks * sizeof(SquareSum); }

template <typename T>
cudaError_t launch_grad_norm(const T* grad, int64_t size, double* norm, void* workspace,
                             cudaStream_t stream) {
  return launch_sum(AddSquare<T>{grad}, size, static_cast<SquareSum*>(workspace), StoreNorm{norm},
                    stream);
}

template cudaError_t launch_adamw(const AdamWArgs<float>&, cudaStream_t);
template cudaError_t launch_adamw(const AdamWArgs<double>&, cudaStream_t);
template cudaError_t launch_grad_norm(const float*, int64_t, double*, void*, cudaStream_t);
template cudaError_t launch_grad_norm(const double*, int64_t, double*, void*, cudaStream_t);

}  // namespace hone::kernels::cuda
