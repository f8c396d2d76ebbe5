// AdamW over all slices of an arena in one launch, the norm of a gradient arena, and its scaling.
//
// A step moves 28 bytes a float32 parameter. A thread has a vector of 16 bytes of each of the four
// arenas in flight before it looks for its slice; a block covers 1024 floats, and one that lies in
// one slice, as nearly all do, takes them as vectors.

#include <algorithm>
#include <cmath>

#include "kernels/cuda/element_vectors.cuh"
#include "kernels/cuda/fixed_order_sum.cuh"
#include "kernels/cuda/model_launchers.h"

namespace hone::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kScaleBlocks = 8448;  // beyond a few waves more blocks only cost their launch

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

/// One element, and its parameter rounded once more.
template <typename T>
HONE_DEVICE void update(T& param, T grad, T& m, T& v, const math::AdamWCoefficients<T>& c,
                        math::Bfloat16& rounded) {
  math::adamw_element(param, grad, m, v, c);
  if constexpr (sizeof(T) == sizeof(float)) math::narrow(param, rounded);
}

/// `first`: where the first block's elements begin: aligned like the arenas, at or before a.begin.
template <typename T, typename G>
HONE_KERNEL(kThreads)
adamw_kernel(AdamWArgs<T, G> a, int64_t first, bool aligned) {
  constexpr int N = device::kVectorWidth<T>;
  const auto& arena = a.arena;
  const T scale = static_cast<T>(*a.grad_scale);
  const int64_t begin = first + device::block_index() * kThreads * N;
  const int64_t i = begin + device::thread_index() * N;
  if (aligned && begin >= a.begin && begin + kThreads * N <= a.end) {
    auto param = device::load_vector<N>(arena.param, i);
    const auto grad = device::load_vector<N>(arena.grad, i);
    auto m = device::load_vector<N>(arena.m, i);
    auto v = device::load_vector<N>(arena.v, i);
    int64_t slice = find_slice(a.offsets, a.slices, i);
    math::AdamWCoefficients<T> c = a.coefficients[slice];
    device::Vector<math::Bfloat16, N> rounded{};
    HONE_UNROLL
    for (int k = 0; k < N; ++k) {
      if (i + k >= a.offsets[slice + 1]) {
        while (i + k >= a.offsets[slice + 1]) ++slice;
        c = a.coefficients[slice];
      }
      update(param[k], static_cast<T>(math::widen(grad[k])) * scale, m[k], v[k], c, rounded[k]);
    }
    device::store_vector(arena.param, i, param);
    device::store_vector(arena.m, i, m);
    device::store_vector(arena.v, i, v);
    if (arena.rounded != nullptr) device::store_vector(arena.rounded, i, rounded);
    return;
  }
  for (int64_t j = i > a.begin ? i : a.begin; j < i + N && j < a.end; ++j) {
    const int64_t slice = find_slice(a.offsets, a.slices, j);
    math::Bfloat16 rounded{};
    update(arena.param[j], static_cast<T>(math::widen(arena.grad[j])) * scale, arena.m[j],
           arena.v[j], a.coefficients[slice], rounded);
    if (arena.rounded != nullptr) arena.rounded[j] = rounded;
  }
}

struct SquareSum {
  double sum = 0;
  HONE_DEVICE void merge(const SquareSum& later) { sum += later.sum; }
};

template <typename T>
struct AddSquares {
  static constexpr int kRun = device::kVectorWidth<T>;
  static constexpr int kResident = 4;
  const T* x;

  template <bool kWhole>
  HONE_DEVICE void operator()(SquareSum& total, int64_t i, int count) const {
    const auto run = load_run<kRun, kWhole>(x, i, count);
    HONE_UNROLL
    for (int k = 0; k < kRun; ++k) {
      const double value = math::widen(run[k]);
      total.sum += value * value;
    }
  }
};

struct StoreNorm {
  double* norm;
  HONE_DEVICE void operator()(const SquareSum& total) const { *norm = std::sqrt(total.sum); }
};

template <typename T>
HONE_KERNEL(kThreads)
scale_kernel(T* x, int64_t size, const double* factor, bool aligned) {
  using C = math::Compute<T>;
  constexpr int N = device::kVectorWidth<T>;
  const C by = static_cast<C>(*factor);
  if (by == C(1)) return;  // known here alone: what a host would save by waiting for the number
  const int64_t stride = device::grid_blocks() * kThreads * N;
  for (int64_t i = (device::block_index() * kThreads + device::thread_index()) * N; i < size;
       i += stride) {
    auto v = load_wide<N>(x, i, size, aligned);
    HONE_UNROLL
    for (int k = 0; k < N; ++k) v[k] *= by;
    store_narrow(x, i, size, aligned, v);
  }
}

}  // namespace

template <typename T, typename G>
cudaError_t launch_adamw(const AdamWArgs<T, G>& args, cudaStream_t stream) {
  if (args.end <= args.begin) return cudaSuccess;
  constexpr int N = device::kVectorWidth<T>;
  constexpr int64_t kElements = kThreads * N;
  const int64_t first = args.begin / N * N;
  const auto& arena = args.arena;
  const bool aligned = all_aligned<N>(arena.param, arena.grad, arena.m, arena.v, arena.rounded);
  return device::launch(adamw_kernel<T, G>, (args.end - first + kElements - 1) / kElements,
                        kThreads, 0, stream, args, first, aligned);
}

size_t grad_norm_workspace_bytes() { return kSumBlocks * sizeof(SquareSum); }

template <typename T>
cudaError_t launch_grad_norm(const T* grad, int64_t size, double* norm, void* workspace,
                             cudaStream_t stream) {
  return launch_sum_of_runs(AddSquares<T>{grad}, size,
                            device::is_aligned<device::kVectorWidth<T>>(grad),
                            static_cast<SquareSum*>(workspace), StoreNorm{norm}, stream);
}

template <typename T>
cudaError_t launch_scale(T* x, int64_t size, const double* factor, cudaStream_t stream) {
  constexpr int N = device::kVectorWidth<T>;
  const int64_t blocks = std::min((size + kThreads * N - 1) / (kThreads * N), kScaleBlocks);
  return device::launch(scale_kernel<T>, blocks, kThreads, 0, stream, x, size, factor,
                        device::is_aligned<N>(x));
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
