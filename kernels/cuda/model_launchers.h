#pragma once

// Host launchers of the model and optimizer kernels: plain pointers on one device, an explicit
// stream, cudaError_t out, no torch. Asynchronous, no allocation. T is float or double.

#include <cstddef>
#include <cstdint>

#include "kernels/device/runtime.h"
#include "kernels/math/adamw.h"
#include "kernels/math/bfloat16.h"

namespace hone::kernels::cuda {

/// A chunk of raw logits, one row a token.
template <typename T>
struct HeadRowArgs {
  const T* logits;         // [rows,vocabulary]
  int64_t stride;          // elements from row to row; best a multiple of 16 bytes
  const int64_t* targets;  // [rows], in [0, vocabulary)
  T* logprobs;             // [rows]
  T* entropy;              // [rows] of softmax(logits/temperature), or null
  int64_t rows;
  int64_t vocabulary;
  double temperature;
};

/// Writes logprobs and entropy.
template <typename T>
cudaError_t launch_head_rows_forward(const HeadRowArgs<T>& args, cudaStream_t stream);

/// D: T, then `logits` may be the logits' own memory; or Bfloat16 beside float.
template <typename T, typename D>
struct HeadRowGradients {
  D* logits;          // [rows,vocabulary] out
  int64_t stride;     // elements from row to row
  const T* logprobs;  // [rows] d loss / d logprob, or null
  const T* entropy;   // [rows] d loss / d entropy, or null
};

/// Reads logprobs and, with a gradient of the entropy, entropy.
template <typename T, typename D>
cudaError_t launch_head_rows_backward(const HeadRowArgs<T>& args,
                                      const HeadRowGradients<T, D>& gradients, cudaStream_t stream);

/// G: T, or Bfloat16 beside float.
template <typename T, typename G>
struct AdamWArgs {
  math::AdamWSpan<T, G> arena;
  const int64_t* offsets;                          // [slices+1] on the device, never falling
  const math::AdamWCoefficients<T>* coefficients;  // [slices] on the device
  int64_t slices;
  int64_t begin, end;        // offsets[0] and offsets[slices], known to the host
  const double* grad_scale;  // one element on the device
};

template <typename T, typename G>
cudaError_t launch_adamw(const AdamWArgs<T, G>& args, cudaStream_t stream);

size_t grad_norm_workspace_bytes();

/// norm = sqrt(sum of squares), in double and in a fixed order. T also Bfloat16.
template <typename T>
cudaError_t launch_grad_norm(const T* grad, int64_t size, double* norm, void* workspace,
                             cudaStream_t stream);

/// x *= *factor. T also Bfloat16.
template <typename T>
cudaError_t launch_scale(T* x, int64_t size, const double* factor, cudaStream_t stream);

template <typename T>
struct DropoutArgs {
  const T* x;  // [size]
  T* y;        // [size]
  int64_t size;
  int64_t seed;
  uint32_t threshold;  // math::dropout_threshold(p)
  T keep;              // 1/(1-p)
};

template <typename T>
cudaError_t launch_dropout(const DropoutArgs<T>& args, cudaStream_t stream);

/// Logits as they are stored: float, double or Bfloat16; results in what that is computed in.
template <typename T>
struct SampleArgs {
  const T* logits;      // [rows,vocabulary]
  const int64_t* keys;  // [rows,3] prompt, sample, position
  int64_t rows;
  int64_t vocabulary;
  int64_t seed;
  double temperature;              // 0 = greedy
  int64_t* tokens;                 // [rows]
  math::Compute<T>* logprobs;      // [rows] under softmax(logits/temperature)
  math::Compute<T>* raw_logprobs;  // [rows] under softmax(logits)
  math::Compute<T>* entropy;       // [rows] of softmax(logits/temperature)
};

/// The op `sample` without filters. A row with a NaN, or with nothing finite, gives token 0 and
/// NaN.
template <typename T>
cudaError_t launch_sample(const SampleArgs<T>& args, cudaStream_t stream);

template <typename T>
struct FilteredSampleArgs : SampleArgs<T> {
  int64_t top_k;  // 0 = off
  double top_p, min_p;
};

/// The same with filters; temperature > 0.
template <typename T>
cudaError_t launch_sample_filtered(const FilteredSampleArgs<T>& args, cudaStream_t stream);

}  // namespace hone::kernels::cuda
