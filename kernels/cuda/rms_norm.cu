// RMS normalisation of rows and its gradient.
//
// Forward: one block a row of any width. The row is read twice; the second read comes from the
// first cache (a row of 8192 bfloat16 is 16 KB). 256 threads above 1024 elements, one warp below,
// so that short rows do not wait for idle warps.
//
// Backward: kBackwardBlocks blocks take rows in turn; each adds its rows' part of d weight in
// shared memory, every column by the one thread that owns it, in the order of the rows. A second
// kernel adds the blocks' parts, in the order of the blocks, in double. The number of blocks is a
// constant (two for each of the 132 SMs of H100 and H200), so results do not depend on the device;
// no float atomics. Width is limited by shared memory: about 57,000 columns in float32.
//
// Traffic: 2 elements a column forward, 3 backward.

#include <algorithm>

#include "kernels/cuda/element_vectors.cuh"
#include "kernels/cuda/transformer_launchers.h"
#include "kernels/device/collectives.h"
#include "kernels/math/norm_and_gate.h"

namespace hone::kernels::cuda {
namespace {

using device::kVectorWidth;
using device::Vector;
using math::Compute;

constexpr int kWide = 256, kNarrow = 32;
constexpr int64_t kNarrowWidth = 1024;
constexpr int64_t kBackwardBlocks = 264;
constexpr int64_t kSharedBytes = 227 * 1024;
// What block_reduce and the alignment of its storage take of that.
constexpr int64_t kReduceBytes = 512;

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
  const C total = device::block_reduce<kThreads>(squares, device::Add{});
  const C r = math::inverse_rms(total, static_cast<C>(a.width), static_cast<C>(a.eps));
  for (int64_t j = first; j < a.width; j += N * kThreads) {
    auto v = load_wide<N>(x, j, a.width, aligned);
    const auto w = load_wide<N>(a.weight, j, a.width, aligned);
    HONE_UNROLL
    for (int k = 0; k < N; ++k) v[k] = v[k] * r * w[k];
    store_narrow(y, j, a.width, aligned, v);
  }
}

/// Of one row: sums of x^2 and of weight*grad*x.
template <typename C>
struct RowSums {
  C squares, through;
};

struct AddRowSums {
  template <typename C>
  HONE_DEVICE RowSums<C> operator()(const RowSums<C>& a, const RowSums<C>& b) const {
    return {a.squares + b.squares, a.through + b.through};
  }
};

/// Columns that the backward kernel keeps: whole vectors, so that shared memory needs no tail.
template <typename T>
HONE_HD int64_t padded(int64_t width) {
  return (width + kVectorWidth<T> - 1) / kVectorWidth<T> * kVectorWidth<T>;
}

/// sums[j ..] += v, 16 bytes at a time (single words would meet in the same banks).
template <typename C, int N>
HONE_DEVICE void add_to(const device::SharedView<C>& sums, int64_t j, const Vector<C, N>& v) {
  constexpr int W = kVectorWidth<C>;
  HONE_UNROLL
  for (int begin = 0; begin < N; begin += W) {
    Vector<C, W> sum = device::load_vector<W>(sums, j + begin);
    HONE_UNROLL
    for (int k = 0; k < W; ++k) sum[k] += v[begin + k];
    device::store_vector(sums, j + begin, sum);
  }
}

template <typename T>
HONE_KERNEL(kWide)
rms_norm_backward_kernel(RmsNormBackwardArgs<T> a, Compute<T>* parts, bool aligned) {
  constexpr int N = kVectorWidth<T>;
  using C = Compute<T>;
  const int64_t first = int64_t{N} * device::thread_index();
  const auto d_weight = device::dynamic_shared<C>(0, padded<T>(a.width));
  for (int64_t j = first; j < a.width; j += N * kWide) {
    for (int k = 0; k < N; ++k) d_weight[j + k] = C(0);
  }
  for (int64_t row = device::block_index(); row < a.rows; row += device::grid_blocks()) {
    const T* x = a.x + row * a.width;
    const T* grad = a.grad + row * a.width;
    RowSums<C> mine{C(0), C(0)};
    for (int64_t j = first; j < a.width; j += N * kWide) {
      const auto v = load_wide<N>(x, j, a.width, aligned);
      const auto g = load_wide<N>(grad, j, a.width, aligned);
      const auto w = load_wide<N>(a.weight, j, a.width, aligned);
      HONE_UNROLL
      for (int k = 0; k < N; ++k) {
        mine.squares += v[k] * v[k];
        mine.through += g[k] * w[k] * v[k];
      }
    }
    const RowSums<C> sums = device::block_reduce<kWide>(mine, AddRowSums{});
    const C width = static_cast<C>(a.width);
    const C r = math::inverse_rms(sums.squares, width, static_cast<C>(a.eps));
    const C mean = sums.through / width;
    for (int64_t j = first; j < a.width; j += N * kWide) {
      const auto v = load_wide<N>(x, j, a.width, aligned);
      const auto g = load_wide<N>(grad, j, a.width, aligned);
      const auto w = load_wide<N>(a.weight, j, a.width, aligned);
      Vector<C, N> d_x, of_row;
      HONE_UNROLL
      for (int k = 0; k < N; ++k) {
        d_x[k] = math::rms_norm_gradient(v[k], g[k] * w[k], r, mean);
        of_row[k] = g[k] * v[k] * r;
      }
      add_to(d_weight, j, of_row);
      store_narrow(a.d_x + row * a.width, j, a.width, aligned, d_x);
    }
  }
  C* part = parts + device::block_index() * a.width;
  for (int64_t j = first; j < a.width; j += N * kWide) {
    for (int k = 0; k < N && j + k < a.width; ++k) part[j + k] = d_weight[j + k];
  }
}

template <typename T>
HONE_KERNEL(kNarrow)
weight_gradient_kernel(const Compute<T>* parts, int64_t blocks, int64_t width, T* d_weight) {
  const int64_t j = device::block_index() * kNarrow + device::thread_index();
  if (j >= width) return;
  double sum = 0;
  for (int64_t b = 0; b < blocks; ++b) sum += parts[b * width + j];
  math::narrow(static_cast<Compute<T>>(sum), d_weight[j]);
}

int64_t backward_blocks(int64_t rows) { return std::min(rows, kBackwardBlocks); }

}  // namespace

template <typename T>
cudaError_t launch_rms_norm(const RmsNormArgs<T>& args, cudaStream_t stream) {
  constexpr int N = kVectorWidth<T>;
  const bool aligned = args.width % N == 0 && device::is_aligned<N>(args.x) &&
                       device::is_aligned<N>(args.weight) && device::is_aligned<N>(args.y);
  if (args.width <= kNarrowWidth) {
    return device::launch(rms_norm_kernel<T, kNarrow>, args.rows, kNarrow, 0, stream, args,
                          aligned);
  }
  return device::launch(rms_norm_kernel<T, kWide>, args.rows, kWide, 0, stream, args, aligned);
}

template <typename T>
int64_t rms_norm_max_width() {
  const int64_t most = (kSharedBytes - kReduceBytes) / static_cast<int64_t>(sizeof(Compute<T>));
  return most / kVectorWidth<T> * kVectorWidth<T>;
}

template <typename T>
size_t rms_norm_workspace_bytes(int64_t rows, int64_t width) {
  return static_cast<size_t>(backward_blocks(rows) * width) * sizeof(Compute<T>);
}

template <typename T>
cudaError_t launch_rms_norm_backward(const RmsNormBackwardArgs<T>& args, cudaStream_t stream) {
  constexpr int N = kVectorWidth<T>;
  if (args.width > rms_norm_max_width<T>()) return cudaErrorInvalidValue;
  const bool aligned = args.width % N == 0 && device::is_aligned<N>(args.x) &&
                       device::is_aligned<N>(args.weight) && device::is_aligned<N>(args.grad) &&
                       device::is_aligned<N>(args.d_x);
  const int64_t blocks = backward_blocks(args.rows);
  auto* parts = static_cast<Compute<T>*>(args.workspace);
  const cudaError_t error =
      device::launch(rms_norm_backward_kernel<T>, blocks, kWide,
                     padded<T>(args.width) * sizeof(Compute<T>), stream, args, parts, aligned);
  if (error != cudaSuccess) return error;
  return device::launch(weight_gradient_kernel<T>, (args.width + kNarrow - 1) / kNarrow, kNarrow, 0,
                        stream, parts, blocks, args.width, args.d_weight);
}

#define HONE_INSTANTIATE(T)                                                                   \
  template cudaError_t launch_rms_norm(const RmsNormArgs<T>&, cudaStream_t);                  \
  template cudaError_t launch_rms_norm_backward(const RmsNormBackwardArgs<T>&, cudaStream_t); \
  template int64_t rms_norm_max_width<T>();                                                   \
  template size_t rms_norm_workspace_bytes<T>(int64_t, int64_t);
HONE_INSTANTIATE(float)
HONE_INSTANTIATE(double)
HONE_INSTANTIATE(math::Bfloat16)
#undef HONE_INSTANTIATE

}  // namespace hone::kernels::cuda
