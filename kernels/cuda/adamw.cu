// AdamW over all slices of an arena in one launch, the norm of a gradient arena, and its scaling.

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

template <typename T, typename G>
HONE_KERNEL(kThreads)
adamw_kernel(AdamWArgs<T, G> a) {
  const int64_t first = a.begin + device::block_index() * kElementsPerBlock;
  const int64_t last = std::min(first + kElementsPerBlock, a.end);
  const T scale = static_cast<T>(*a.grad_scale);
  int64_t slice = find_slice(a.offsets, a.slices, first);
  for (int64_t i = first + device::thread_index(); i < last; i += kThreads) {
    while (i >= a.offsets[slice + 1]) ++slice;
    const T grad = static_cast<T>(math::widen(a.arena.grad[i])) * scale;
    math::adamw_element(a.arena.param[i], grad, a.arena.m[i], a.arena.v[i], a.coefficients[slice]);
    if constexpr (sizeof(T) == sizeof(float)) {
      if (a.arena.rounded != nullptr) math::narrow(a.arena.param[i], a.arena.rounded[i]);
    }
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
    const double value = math::widen(x[i]);
    total.sum += value * value;
  }
};

struct StoreNorm {
  double* norm;
  HONE_DEVICE void operator()(const SquareSum& total) const { *norm = std::sqrt(total.sum); }
};

template <typename T>
HONE_KERNEL(kThreads)
scale_kernel(T* x, int64_t size, const double* factor) {
  using C = math::Compute<T>;
  const C by = static_cast<C>(*factor);
  const int64_t stride = device::grid_blocks() * kThreads;
  for (int64_t i = device::block_index() * kThreads + device::thread_index(); i < size;
       i += stride) {
    math::narrow(static_cast<C>(math::widen(x[i]) * by), x[i]);
  }
}

}  // namespace

template <typename T, typename G>
cudaError_t launch_adamw(const AdamWArgs<T, G>& args, cudaStream_t stream) {
  if (args.end <= args.begin) return cudaSuccess;
  const int64_t blocks = (args.end - args.begin + kElementsPerBlock - 1) / kElementsPerBlock;
  return device::launch(adamw_kernel<T, G>, blocks, kThreads, 0, stream, args);
}

size_t grad_norm_workspace_bytes() { return kSumBlocks * sizeof(SquareSum); }

template <typename T>
cudaError_t launch_grad_norm(const T* grad, int64_t size, double* norm, void* workspace,
                             cudaStream_t stream) {
  return launch_sum(AddSquare<T>{grad}, size, static_cast<SquareSum*>(workspace), StoreNorm{norm},
                    stream);
}

template <typename T>
cudaError_t launch_scale(T* x, int64_t size, const double* factor, cudaStream_t stream) {
  const int64_t blocks = std::min((size + kThreads - 1) / kThreads, kSumBlocks);
  return device::launch(scale_kernel<T>, blocks, kThreads, 0, stream, x, size, factor);
}

using math::Bfloat16;
template cudaError_t launch_adamw(const AdamWArgs<float, float>&, cudaStream_t);
template cudaError_t launch_adamw(const AdamWArgs<float, Bfloat16>&, cudaStream_t);
template cudaError_t launch_adamw(const AdamWArgs<double, double>&, cudaStream_t);
template cudaError_t launch_grad_norm(const float*, int64_t, double*, void*, cudaStream_t);
template cudaError_t launch_grad_norm(const double*, int64_t, double*, void*, cudaStream_t);
template cudaError_t launch_grad_norm(const Bfloat16*, int64_t, double*, void*, cudaStream_t);
template cudaError_t launch_scale(float*, int64_t, const double*, cudaStream_t);
template cudaError_t launch_scale(double*, int64_t, const double*, cudaStream_t);
template cudaError_t launch_scale(Bfloat16*, int64_t, const double*, cudaStream_t);

}  // namespace hone::kernels::cuda
