// SwiGLU and its gradient, element by element: 3 and 5 elements of traffic each, nothing else.
//
// Shapes: any rows and width; x holds gates and values side by side, [rows, 2*width]. A block
// covers 128 vectors of one row (512 floats, 1024 bfloat16): 128 threads, because widths of MLPs
// are multiples of 512 or nearly so, and small blocks keep the tail of a row short. One division a
// block finds the row; a thread moves 16 bytes an operand.

#include "kernels/cuda/element_vectors.cuh"
#include "kernels/cuda/transformer_launchers.h"
#include "kernels/math/norm_and_gate.h"

namespace hone::kernels::cuda {
namespace {

constexpr int kThreads = 128;

using device::kVectorWidth;
using device::Vector;
using math::Compute;

template <typename T>
int64_t blocks_per_row(int64_t width) {
  constexpr int64_t kColumns = kThreads * kVectorWidth<T>;
  return (width + kColumns - 1) / kColumns;
}

/// The row and the first column of this thread.
template <typename T>
struct Position {
  int64_t row, column;

  HONE_DEVICE explicit Position(int64_t per_row) {
    row = device::block_index() / per_row;
    const int64_t part = device::block_index() - row * per_row;
    column = (part * kThreads + device::thread_index()) * kVectorWidth<T>;
  }
};

template <typename T>
HONE_KERNEL(kThreads)
swiglu_kernel(SwigluArgs<T> a, int64_t per_row, bool aligned) {
  constexpr int N = kVectorWidth<T>;
  const Position<T> at(per_row);
  if (at.column >= a.width) return;
  const T* gates = a.x + at.row * 2 * a.width;
  const auto gate = load_wide<N>(gates, at.column, a.width, aligned);
  const auto up = load_wide<N>(gates + a.width, at.column, a.width, aligned);
  Vector<Compute<T>, N> y;
  HONE_UNROLL
  for (int k = 0; k < N; ++k) y[k] = math::swiglu(gate[k], up[k]);
  store_narrow(a.y + at.row * a.width, at.column, a.width, aligned, y);
}

template <typename T>
HONE_KERNEL(kThreads)
swiglu_backward_kernel(SwigluBackwardArgs<T> a, int64_t per_row, bool aligned) {
  constexpr int N = kVectorWidth<T>;
  const Position<T> at(per_row);
  if (at.column >= a.width) return;
  const T* gates = a.x + at.row * 2 * a.width;
  T* d_gates = a.d_x + at.row * 2 * a.width;
  const auto dy = load_wide<N>(a.grad + at.row * a.width, at.column, a.width, aligned);
  const auto gate = load_wide<N>(gates, at.column, a.width, aligned);
  const auto up = load_wide<N>(gates + a.width, at.column, a.width, aligned);
  Vector<Compute<T>, N> d_gate, d_up;
  HONE_UNROLL
  for (int k = 0; k < N; ++k) {
    const auto d = math::swiglu_gradient(dy[k], gate[k], up[k]);
    d_gate[k] = d.gate;
    d_up[k] = d.up;
  }
  store_narrow(d_gates, at.column, a.width, aligned, d_gate);
  store_narrow(d_gates + a.width, at.column, a.width, aligned, d_up);
}

}  // namespace

template <typename T>
cudaError_t launch_swiglu(const SwigluArgs<T>& args, cudaStream_t stream) {
  constexpr int N = kVectorWidth<T>;
  const bool aligned =
      args.width % N == 0 && device::is_aligned<N>(args.x) && device::is_aligned<N>(args.y);
  const int64_t per_row = blocks_per_row<T>(args.width);
  return device::launch(swiglu_kernel<T>, args.rows * per_row, kThreads, 0, stream, args, per_row,
                        aligned);
}

template <typename T>
cudaError_t launch_swiglu_backward(const SwigluBackwardArgs<T>& args, cudaStream_t stream) {
  constexpr int N = kVectorWidth<T>;
  const bool aligned = args.width % N == 0 && device::is_aligned<N>(args.x) &&
                       device::is_aligned<N>(args.grad) && device::is_aligned<N>(args.d_x);
  const int64_t per_row = blocks_per_row<T>(args.width);
  return device::launch(swiglu_backward_kernel<T>, args.rows * per_row, kThreads, 0, stream, args,
                        per_row, aligned);
}

template cudaError_t launch_swiglu(const SwigluArgs<float>&, cudaStream_t);
template cudaError_t launch_swiglu(const SwigluArgs<double>&, cudaStream_t);
template cudaError_t launch_swiglu(const SwigluArgs<math::Bfloat16>&, cudaStream_t);
template cudaError_t launch_swiglu_backward(const SwigluBackwardArgs<float>&, cudaStream_t);
template cudaError_t launch_swiglu_backward(const SwigluBackwardArgs<double>&, cudaStream_t);
template cudaError_t launch_swiglu_backward(const SwigluBackwardArgs<math::Bfloat16>&,
                                            cudaStream_t);

}  // namespace hone::kernels::cuda
