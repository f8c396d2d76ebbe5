// The gradients of RMS normalisation. Traffic: 3 elements a column.
//
// A thread owns its columns in every row that its block takes. Rows of up to 8192 bfloat16 (4096
// floats) are held: a thread keeps its columns' weights and their sums for d weight in registers
// and has the next row in flight while it works on one. Up to 2 vectors a lane a row is one warp's,
// above that a block's of as many threads as the row has vectors; the grid shrinks as blocks grow,
// so that as many bytes are in flight. Wider rows keep the sums in shared memory, which limits
// them to about 57,000 columns in float32, and are read twice, the second time from the first
// cache.
//
// A second kernel adds the blocks' sums in their order, in double. The numbers of blocks are
// constants (132 SMs of H100 and H200), so results do not depend on the device; no float atomics.

#include <algorithm>

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

constexpr int64_t kSms = 132;
constexpr int kWide = 256;
constexpr int64_t kSharedBytes = 227 * 1024;
// What block_reduce and the alignment of its storage take of that.
constexpr int64_t kReduceBytes = 512;

/// Of one row: sums of x^2 and of weight*grad*x.
template <typename C>
struct RowSums {
  C squares, through;

  HONE_DEVICE void add(C x, C weighted_grad) {
    squares += x * x;
    through += weighted_grad * x;
  }
};

struct AddRowSums {
  template <typename C>
  HONE_DEVICE RowSums<C> operator()(const RowSums<C>& a, const RowSums<C>& b) const {
    return {a.squares + b.squares, a.through + b.through};
  }
};

/// What a row's gradients have in common.
template <typename C>
struct RowScale {
  C r, mean;

  HONE_DEVICE RowScale(const RowSums<C>& sums, C width, C eps)
      : r(math::inverse_rms(sums.squares, width, eps)), mean(sums.through / width) {}
};

/// One row's part of the work of a thread: kVectors vectors of x and grad, as they are stored.
template <typename T, int kVectors>
struct HeldRow {
  Vector<T, kVectorWidth<T>> x[kVectors], grad[kVectors];
};

/// kRowThreads: a warp, or all kThreads of the block. kAligned: whole aligned vectors.
template <typename T, int kRowThreads, int kThreads, int kVectors, bool kAligned>
HONE_KERNEL_RESIDENT(kThreads, (kRowThreads == kWarp ? 512 : 1024) / kThreads)
rms_norm_backward_held_kernel(RmsNormBackwardArgs<T> a, Compute<T>* parts) {
  constexpr int N = kVectorWidth<T>;
  constexpr int kRows = kThreads / kRowThreads;
  using C = Compute<T>;
  HONE_SHARED(RowSums<C>, of_warp, 2 * kThreads / kWarp);
  const int width = static_cast<int>(a.width);
  const int first = device::thread_index() % kRowThreads * N;
  const auto column = [&](int v) { return first + v * kRowThreads * N; };
  const auto load = [&](const T* from, int v) {
    // Beyond the row's end its first vector once more: loads that hang on a condition would wait
    // for each other.
    const int j = column(v) < width ? column(v) : 0;
    return load_run<N, kAligned>(from, j, count_of<N>(j, width));
  };
  HeldRow<T, kVectors> row, next;
  Vector<T, N> weight[kVectors];
  Vector<C, N> d_weight[kVectors];
  const auto load_row = [&](int64_t begin, HeldRow<T, kVectors>& out) {
    HONE_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      out.x[v] = load(a.x + begin, v);
      out.grad[v] = load(a.grad + begin, v);
    }
  };
  const int64_t size = a.rows * a.width, stride = device::grid_blocks() * kRows * a.width;
  int64_t begin =  // of the row
      (device::block_index() * kRows + device::thread_index() / kRowThreads) * a.width;
  load_row(begin < size ? begin : 0, row);
  HONE_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    weight[v] = load(a.weight, v);
    d_weight[v] = {};
  }
  for (int parity = 0; begin < size; begin += stride, parity ^= 1) {
    load_row(begin + stride < size ? begin + stride : begin, next);
    RowSums<C> sums{C(0), C(0)};
    HONE_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const bool there = column(v) < width;
      HONE_UNROLL
      for (int k = 0; k < N; ++k) {
        sums.add(there ? math::widen(row.x[v][k]) : C(0),
                 math::widen(row.grad[v][k]) * math::widen(weight[v][k]));
      }
      device::forget_values(row.x[v]);
      device::forget_values(row.grad[v]);
      device::forget_values(weight[v]);
    }
    sums = device::warp_all_reduce(sums, AddRowSums{});
    if constexpr (kRows == 1) {
      // Two places in turns: who writes one has passed the barrier after which the other was read.
      constexpr int kWarps = kThreads / kWarp;
      if (device::lane() == 0) of_warp[parity * kWarps + device::warp_index()] = sums;
      device::barrier();
      sums = {C(0), C(0)};
      if (device::lane() < kWarps) sums = of_warp[parity * kWarps + device::lane()];
      sums = device::warp_all_reduce(sums, AddRowSums{});
    }
    const RowScale<C> scale(sums, static_cast<C>(a.width), static_cast<C>(a.eps));
    HONE_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      Vector<C, N> d_x;
      HONE_UNROLL
      for (int k = 0; k < N; ++k) {
        const C x = math::widen(row.x[v][k]), g = math::widen(row.grad[v][k]);
        d_x[k] = math::rms_norm_gradient(x, g * math::widen(weight[v][k]), scale.r, scale.mean);
        d_weight[v][k] += g * x * scale.r;
      }
      const int j = column(v);
      if (j < width) {
        store_run<kAligned>(a.d_x + begin, j, count_of<N>(j, width), narrowed<T>(d_x));
      }
    }
    row = next;
  }
  C* part = parts + device::block_index() * a.width;
  if constexpr (kRows == 1) {
    HONE_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      HONE_UNROLL
      for (int k = 0; k < N; ++k) {
        if (column(v) + k < width) part[column(v) + k] = d_weight[v][k];
      }
    }
  } else {  // the block's warps have sums of the same columns: added in their order
    HONE_SHARED(C, sums, kVectors * kRowThreads * N);
    for (int w = 0; w < kRows; ++w) {
      if (w == device::warp_index()) {
        HONE_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          HONE_UNROLL
          for (int k = 0; k < N; ++k) {
            const int j = column(v) + k;
            sums[j] = w == 0 ? d_weight[v][k] : C(sums[j]) + d_weight[v][k];
          }
        }
      }
      device::barrier();
    }
    for (int j = device::thread_index(); j < width; j += kThreads) part[j] = sums[j];
  }
}

/// Columns that the kernel for wide rows keeps: whole vectors, so that shared memory needs no tail.
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
      for (int k = 0; k < N; ++k) mine.add(v[k], g[k] * w[k]);
    }
    const RowScale<C> scale(device::block_reduce<kWide>(mine, AddRowSums{}),
                            static_cast<C>(a.width), static_cast<C>(a.eps));
    for (int64_t j = first; j < a.width; j += N * kWide) {
      const auto v = load_wide<N>(x, j, a.width, aligned);
      const auto g = load_wide<N>(grad, j, a.width, aligned);
      const auto w = load_wide<N>(a.weight, j, a.width, aligned);
      Vector<C, N> d_x, of_row;
      HONE_UNROLL
      for (int k = 0; k < N; ++k) {
        d_x[k] = math::rms_norm_gradient(v[k], g[k] * w[k], scale.r, scale.mean);
        of_row[k] = g[k] * v[k] * scale.r;
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

/// A warp's columns by kAdders warps: each adds its share of the parts, the first adds the shares.
constexpr int kAdders = 16;

template <typename T>
HONE_KERNEL(kWarp* kAdders)
weight_gradient_kernel(const Compute<T>* parts, int64_t blocks, int64_t width, T* d_weight) {
  HONE_SHARED(double, shares, kWarp* kAdders);
  const int64_t j = device::block_index() * kWarp + device::lane();
  double sum = 0;
  if (j < width) {
    constexpr int kTogether = 8;  // loads in flight
    int64_t b = device::warp_index();
    for (; b + (kTogether - 1) * kAdders < blocks; b += kTogether * kAdders) {
      Compute<T> part[kTogether];
      HONE_UNROLL
      for (int i = 0; i < kTogether; ++i) part[i] = parts[(b + i * kAdders) * width + j];
      HONE_UNROLL
      for (int i = 0; i < kTogether; ++i) sum += part[i];
    }
    for (; b < blocks; b += kAdders) sum += parts[b * width + j];
  }
  shares[device::thread_index()] = sum;
  device::barrier();
  if (device::warp_index() > 0 || j >= width) return;
  for (int w = 1; w < kAdders; ++w) sum += shares[w * kWarp + device::lane()];
  math::narrow(static_cast<Compute<T>>(sum), d_weight[j]);
}

/// How rows of a width are shared out. Of shape and type alone.
template <typename T>
struct Plan {
  int64_t row_threads, rows_a_block, most_blocks;
  bool held;

  explicit Plan(int64_t width) {
    const int64_t vectors = padded<T>(width) / kVectorWidth<T>;
    held = vectors <= 1024 && sizeof(Compute<T>) == sizeof(float);
    row_threads = kWide;
    while (held && row_threads < vectors) row_threads *= 2;
    if (held && vectors <= 4 * kWarp) row_threads = vectors <= 2 * kWarp ? kWarp : 4 * kWarp;
    rows_a_block = row_threads == kWarp ? kWide / kWarp : 1;
    most_blocks = 2 * kSms;
    if (held && rows_a_block == 1) most_blocks = kSms * 1024 / row_threads;
  }
  int64_t blocks(int64_t rows) const {
    return std::min((rows + rows_a_block - 1) / rows_a_block, most_blocks);
  }
};

template <typename T, bool kAligned>
cudaError_t launch_held(const RmsNormBackwardArgs<T>& args, const Plan<T>& plan, Compute<T>* parts,
                        cudaStream_t stream) {
  const int64_t blocks = plan.blocks(args.rows);
  const auto launch = [&](auto* kernel, int threads) {
    return device::launch(kernel, blocks, threads, 0, stream, args, parts);
  };
  switch (plan.row_threads) {
    case kWarp:
      if (args.width <= kWarp * kVectorWidth<T>) {
        return launch(&rms_norm_backward_held_kernel<T, kWarp, kWide, 1, kAligned>, kWide);
      }
      return launch(&rms_norm_backward_held_kernel<T, kWarp, kWide, 2, kAligned>, kWide);
    case 128:
      return launch(&rms_norm_backward_held_kernel<T, 128, 128, 1, kAligned>, 128);
    case 256:
      return launch(&rms_norm_backward_held_kernel<T, 256, 256, 1, kAligned>, 256);
    case 512:
      return launch(&rms_norm_backward_held_kernel<T, 512, 512, 1, kAligned>, 512);
    default:
      return launch(&rms_norm_backward_held_kernel<T, 1024, 1024, 1, kAligned>, 1024);
  }
}

}  // namespace

template <typename T>
int64_t rms_norm_max_width() {
  const int64_t most = (kSharedBytes - kReduceBytes) / static_cast<int64_t>(sizeof(Compute<T>));
  return most / kVectorWidth<T> * kVectorWidth<T>;
}

template <typename T>
size_t rms_norm_workspace_bytes(int64_t rows, int64_t width) {
  return static_cast<size_t>(Plan<T>(width).blocks(rows) * width) * sizeof(Compute<T>);
}

template <typename T>
cudaError_t launch_rms_norm_backward(const RmsNormBackwardArgs<T>& args, cudaStream_t stream) {
  constexpr int N = kVectorWidth<T>;
  if (args.width > rms_norm_max_width<T>()) return cudaErrorInvalidValue;
  const bool aligned =
      args.width % N == 0 && all_aligned<N>(args.x, args.weight, args.grad, args.d_x);
  const Plan<T> plan(args.width);
  const int64_t blocks = plan.blocks(args.rows);
  auto* parts = static_cast<Compute<T>*>(args.workspace);
  cudaError_t error = cudaSuccess;
  if constexpr (sizeof(Compute<T>) == sizeof(float)) {
    if (plan.held) {
      error = aligned ? launch_held<T, true>(args, plan, parts, stream)
                      : launch_held<T, false>(args, plan, parts, stream);
    }
  }
  if (!plan.held) {
    error =
        device::launch(rms_norm_backward_kernel<T>, blocks, kWide,
                       padded<T>(args.width) * sizeof(Compute<T>), stream, args, parts, aligned);
  }
  if (error != cudaSuccess) return error;
  return device::launch(weight_gradient_kernel<T>, (args.width + kWarp - 1) / kWarp,
                        kWarp * kAdders, 0, stream, parts, blocks, args.width, args.d_weight);
}

#define HONE_INSTANTIATE(T)                                                                   \
  template cudaError_t launch_rms_norm_backward(const RmsNormBackwardArgs<T>&, cudaStream_t); \
  template int64_t rms_norm_max_width<T>();                                                   \
  template size_t rms_norm_workspace_bytes<T>(int64_t, int64_t);
HONE_INSTANTIATE(float)
HONE_INSTANTIATE(double)
HONE_INSTANTIATE(math::Bfloat16)
#undef HONE_INSTANTIATE

}  // namespace hone::kernels::cuda
