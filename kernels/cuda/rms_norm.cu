// RMS normalisation of rows. Traffic: 2 elements a column.
//
// Rows of aligned vectors of 16 bytes that fit the registers are read once, all their vectors in
// flight before the first is used: by one warp a row up to 4 vectors a lane, so that no row waits
// at a barrier, above that by 256 threads a row, so that a few rows still keep the SMs busy. All
// other rows are read twice, by as many threads in the same order, so that alignment never shows in
// a result; the second read comes from the first cache.

#include "kernels/cuda/element_vectors.cuh"
#include "kernels/cuda/transformer_launchers.h"
#include "kernels/device/collectives.h"
#include "kernels/math/norm_and_gate.h"

namespace hone::kernels::cuda {
namespace {

using device::kVectorWidth;
using device::kWarp;
using device::Vector;
using math::Compute;

constexpr int kWide = 256;
constexpr int kBlock = 128;  // threads of a block of rows of one warp each

/// Sum over the threads of a row, in each of them.
template <int kRowThreads, typename C>
HONE_DEVICE C row_sum(C mine) {
  if constexpr (kRowThreads == kWarp) {
    return device::warp_all_reduce(mine, device::Add{});
  } else {
    return device::block_reduce<kRowThreads>(mine, device::Add{});
  }
}

/// kRowThreads: a warp, or all kThreads of the block. Whole aligned vectors, at most kVectors a
/// thread.
template <typename T, int kRowThreads, int kThreads, int kVectors>
HONE_KERNEL_RESIDENT(kThreads, 1024 / kThreads)
rms_norm_held_kernel(RmsNormArgs<T> a) {
  constexpr int N = kVectorWidth<T>;
  using C = Compute<T>;
  const int64_t row =
      device::block_index() * (kThreads / kRowThreads) + device::thread_index() / kRowThreads;
  if (row >= a.rows) return;  // whole warps
  const int first = device::thread_index() % kRowThreads * N;
  const int width = static_cast<int>(a.width);
  const T* x = a.x + row * a.width;
  Vector<T, N> held[kVectors];
  HONE_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    // Beyond the row's end its first vector, then zeros: loads that hang on a condition would wait
    // for each other.
    const int j = first + v * kRowThreads * N;
    held[v] = device::load_vector<N>(x, j < width ? j : 0);
  }
  Vector<T, N> weight[kVectors];
  HONE_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    const int j = first + v * kRowThreads * N;
    weight[v] = device::load_vector<N>(a.weight, j < width ? j : 0);
  }
  C squares = 0;
  HONE_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    const bool there = first + v * kRowThreads * N < width;
    HONE_UNROLL
    for (int k = 0; k < N; ++k) {
      const C x = there ? math::widen(held[v][k]) : C(0);
      squares += x * x;
    }
    device::forget_values(held[v]);
    device::forget_values(weight[v]);
  }
  const C r = math::inverse_rms(row_sum<kRowThreads>(squares), static_cast<C>(a.width),
                                static_cast<C>(a.eps));
  T* y = a.y + row * a.width;
  HONE_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    const int j = first + v * kRowThreads * N;
    if (j >= width) continue;
    Vector<C, N> out;
    HONE_UNROLL
    for (int k = 0; k < N; ++k) out[k] = math::widen(held[v][k]) * r * math::widen(weight[v][k]);
    device::store_vector(y, j, narrowed<T>(out));
  }
}

template <typename T, int kThreads>
HONE_KERNEL(kThreads)
rms_norm_kernel(RmsNormArgs<T> a, bool aligned) {
  constexpr int N = kVectorWidth<T>;
  using C = Compute<T>;
  const T* x = a.x + device::block_index() * a.width;
  T* y = a.y + device::block_index() * a.width;
  const int64_t first = int64_t{N} * device::thread_index();
  C squares = 0;
  for (int64_t j = first; j < a.width; j += N * kThreads) {
    const auto v = load_wide<N>(x, j, a.width, aligned);
    HONE_UNROLL
    for (int k = 0; k < N; ++k) squares += v[k] * v[k];
  }
  const C r =
      math::inverse_rms(row_sum<kThreads>(squares), static_cast<C>(a.width), static_cast<C>(a.eps));
  for (int64_t j = first; j < a.width; j += N * kThreads) {
    auto v = load_wide<N>(x, j, a.width, aligned);
    const auto w = load_wide<N>(a.weight, j, a.width, aligned);
    HONE_UNROLL
    for (int k = 0; k < N; ++k) v[k] = v[k] * r * w[k];
    store_narrow(y, j, a.width, aligned, v);
  }
}

template <typename T, int kVectors>
cudaError_t launch_warps(const RmsNormArgs<T>& args, cudaStream_t stream) {
  constexpr int64_t kRows = kBlock / kWarp;
  return device::launch(rms_norm_held_kernel<T, kWarp, kBlock, kVectors>,
                        (args.rows + kRows - 1) / kRows, kBlock, 0, stream, args);
}

}  // namespace

template <typename T>
cudaError_t launch_rms_norm(const RmsNormArgs<T>& args, cudaStream_t stream) {
  constexpr int N = kVectorWidth<T>;
  const bool aligned = args.width % N == 0 && all_aligned<N>(args.x, args.weight, args.y);
  const int64_t vectors = (args.width + N - 1) / N;
  if (vectors <= 4 * kWarp) {
    if (!aligned) {
      return device::launch(rms_norm_kernel<T, kWarp>, args.rows, kWarp, 0, stream, args, aligned);
    }
    return vectors <= kWarp ? launch_warps<T, 1>(args, stream) : launch_warps<T, 4>(args, stream);
  }
  const auto launch_held = [&](auto* kernel) {
    return device::launch(kernel, args.rows, kWide, 0, stream, args);
  };
  if (aligned && vectors <= 2 * kWide)
    return launch_held(&rms_norm_held_kernel<T, kWide, kWide, 2>);
  if (aligned && vectors <= 4 * kWide)
    return launch_held(&rms_norm_held_kernel<T, kWide, kWide, 4>);
  return device::launch(rms_norm_kernel<T, kWide>, args.rows, kWide, 0, stream, args, aligned);
}

template cudaError_t launch_rms_norm(const RmsNormArgs<float>&, cudaStream_t);
template cudaError_t launch_rms_norm(const RmsNormArgs<double>&, cudaStream_t);
template cudaError_t launch_rms_norm(const RmsNormArgs<math::Bfloat16>&, cudaStream_t);

}  // namespace hone::kernels::cuda
