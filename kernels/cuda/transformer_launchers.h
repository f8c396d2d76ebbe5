#pragma once

// Host launchers of the transformer pieces: plain pointers on one device, an explicit stream,
// cudaError_t out, no torch. Asynchronous, no allocation. T is float, double or math::Bfloat16;
// bfloat16 is computed in float32 and rounded once.

#include <cstddef>
#include <cstdint>

#include "kernels/device/runtime.h"
#include "kernels/math/bfloat16.h"

namespace hone::kernels::cuda {

template <typename T>
struct RmsNormArgs {
  const T* x;       // [rows, width]
  const T* weight;  // [width]
  T* y;             // [rows, width]
  int64_t rows;
  int64_t width;
  double eps;
};

template <typename T>
cudaError_t launch_rms_norm(const RmsNormArgs<T>& args, cudaStream_t stream);

template <typename T>
struct RmsNormBackwardArgs {
  const T* grad;    // [rows, width]
  const T* x;       // [rows, width]
  const T* weight;  // [width]
  T* d_x;           // [rows, width]
  T* d_weight;      // [width]
  void* workspace;  // rms_norm_workspace_bytes<T>(rows, width), aligned to 16 bytes
  int64_t rows;
  int64_t width;  // at most rms_norm_max_width<T>()
  double eps;
};

template <typename T>
int64_t rms_norm_max_width();

template <typename T>
size_t rms_norm_workspace_bytes(int64_t rows, int64_t width);

template <typename T>
cudaError_t launch_rms_norm_backward(const RmsNormBackwardArgs<T>& args, cudaStream_t stream);

template <typename T>
struct SwigluArgs {
  const T* x;  // [rows, 2*width]: gates, then the values they let through
  T* y;        // [rows, width]
  int64_t rows;
  int64_t width;
};

template <typename T>
cudaError_t launch_swiglu(const SwigluArgs<T>& args, cudaStream_t stream);

template <typename T>
struct SwigluBackwardArgs {
  const T* grad;  // [rows, width]
  const T* x;     // [rows, 2*width]
  T* d_x;         // [rows, 2*width]
  int64_t rows;
  int64_t width;
};

template <typename T>
cudaError_t launch_swiglu_backward(const SwigluBackwardArgs<T>& args, cudaStream_t stream);

}  // namespace hone::kernels::cuda
