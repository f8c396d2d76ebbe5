// SwiGLU and its gradient, element by element: 3 and 5 elements of traffic each, nothing else.
//
// Shapes: any rows and width; x holds gates and values side by side, [rows, 2*width]. A thread has
// kRuns vectors of 16 bytes of each operand in flight before it computes: 64 bytes forward, 96
// backward, which fills the memory's pipes at half of an SM's threads. A block covers 256 vectors
// of one row (1024 floats, 2048 bfloat16): widths of MLPs are multiples of that or nearly so, and
// small blocks keep the tail of a row short. One division a block finds the row.

#include "kernels/cuda/element_vectors.cuh"
#include "kernels/cuda/transformer_launchers.h"
#include "kernels/math/norm_and_gate.h"

namespace hone::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kRuns = 2;

using device::kVectorWidth;
using device::Vector;
using math::Compute;

template <typename T>
constexpr int kColumns = kThreads* kRuns* kVectorWidth<T>;

template <typename T>
int64_t blocks_per_row(int64_t width) {
  return (width + kColumns<T> - 1) / kColumns<T>;
}

/// Gates, values and the gradient of a run, and what becomes of them. kWhole as load_run has it.
template <typename T>
struct Forward {
  static constexpr int N = kVectorWidth<T>;

  Vector<T, N> gate, up;

  template <bool kWhole>
  HONE_DEVICE void load(const SwigluArgs<T>& a, int64_t row, int64_t column, int count) {
    const T* gates = a.x + row * 2 * a.width;
    gate = load_run<N, kWhole>(gates, column, count);
    up = load_run<N, kWhole>(gates + a.width, column, count);
    if constexpr (kWhole) {
      device::forget_values(gate);
      device::forget_values(up);
    }
  }
  template <bool kWhole>
  HONE_DEVICE void store(const SwigluArgs<T>& a, int64_t row, int64_t column, int count) const {
    Vector<Compute<T>, N> y;
    HONE_UNROLL
    for (int k = 0; k < N; ++k) y[k] = math::swiglu(math::widen(gate[k]), math::widen(up[k]));
    store_run<kWhole>(a.y + row * a.width, column, count, narrowed<T>(y));
  }
};

template <typename T>
struct Backward {
  static constexpr int N = kVectorWidth<T>;

  Vector<T, N> gate, up, grad;

  template <bool kWhole>
  HONE_DEVICE void load(const SwigluBackwardArgs<T>& a, int64_t row, int64_t column, int count) {
    const T* gates = a.x + row * 2 * a.width;
    gate = load_run<N, kWhole>(gates, column, count);
    up = load_run<N, kWhole>(gates + a.width, column, count);
    grad = load_run<N, kWhole>(a.grad + row * a.width, column, count);
    if constexpr (kWhole) {
      device::forget_values(gate);
      device::forget_values(up);
      device::forget_values(grad);
    }
  }
  template <bool kWhole>
  HONE_DEVICE void store(const SwigluBackwardArgs<T>& a, int64_t row, int64_t column,
                         int count) const {
    Vector<Compute<T>, N> d_gate, d_up;
    HONE_UNROLL
    for (int k = 0; k < N; ++k) {
      const auto d =
          math::swiglu_gradient(math::widen(grad[k]), math::widen(gate[k]), math::widen(up[k]));
      d_gate[k] = d.gate;
      d_up[k] = d.up;
    }
    T* d_gates = a.d_x + row * 2 * a.width;
    store_run<kWhole>(d_gates, column, count, narrowed<T>(d_gate));
    store_run<kWhole>(d_gates + a.width, column, count, narrowed<T>(d_up));
  }
};

/// Run: Forward<T> or Backward<T>. kAligned: every run lies whole in its row, or beyond it.
template <bool kAligned, typename Run, typename Args>
HONE_KERNEL(kThreads)
swiglu_kernel(Args a, unsigned per_row) {
  constexpr int N = Run::N;
  const auto block = static_cast<unsigned>(device::block_index());
  const int64_t row = block / per_row;
  const int64_t first = (int64_t{block % per_row} * kRuns * kThreads + device::thread_index()) * N;
  if (first >= a.width) return;
  Run runs[kRuns];
  HONE_UNROLL
  for (int r = 0; r < kRuns; ++r) {
    // Beyond the row's end its first run once more: a load that hangs on a condition would make the
    // next one wait for it.
    int64_t column = first + r * kThreads * N;
    if (column >= a.width) column = 0;
    runs[r].template load<kAligned>(a, row, column, count_of<N>(column, a.width));
  }
  HONE_UNROLL
  for (int r = 0; r < kRuns; ++r) {
    const int64_t column = first + r * kThreads * N;
    if (column < a.width) {
      runs[r].template store<kAligned>(a, row, column, count_of<N>(column, a.width));
    }
  }
}

template <typename Run, typename Args>
cudaError_t launch(const Args& args, int64_t per_row, bool aligned, cudaStream_t stream) {
  void (*kernel)(Args, unsigned) = swiglu_kernel<false, Run, Args>;
  if (aligned) kernel = swiglu_kernel<true, Run, Args>;
  return device::launch(kernel, args.rows * per_row, kThreads, 0, stream, args,
                        static_cast<unsigned>(per_row));
}

}  // namespace

template <typename T>
cudaError_t launch_swiglu(const SwigluArgs<T>& args, cudaStream_t stream) {
  constexpr int N = kVectorWidth<T>;
  const bool aligned = args.width % N == 0 && all_aligned<N>(args.x, args.y);
  return launch<Forward<T>>(args, blocks_per_row<T>(args.width), aligned, stream);
}

template <typename T>
cudaError_t launch_swiglu_backward(const SwigluBackwardArgs<T>& args, cudaStream_t stream) {
  constexpr int N = kVectorWidth<T>;
  const bool aligned = args.width % N == 0 && all_aligned<N>(args.x, args.grad, args.d_x);
  return launch<Backward<T>>(args, blocks_per_row<T>(args.width), aligned, stream);
}

template cudaError_t launch_swiglu(const SwigluArgs<float>&, cudaStream_t);
template cudaError_t launch_swiglu(const SwigluArgs<double>&, cudaStream_t);
template cudaError_t launch_swiglu(const SwigluArgs<math::Bfloat16>&, cudaStream_t);
template cudaError_t launch_swiglu_backward(const SwigluBackwardArgs<float>&, cudaStream_t);
template cudaError_t launch_swiglu_backward(const SwigluBackwardArgs<double>&, cudaStream_t);
template cudaError_t launch_swiglu_backward(const SwigluBackwardArgs<math::Bfloat16>&,
                                            cudaStream_t);

}  // namespace hone::kernels::cuda
