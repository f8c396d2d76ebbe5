#pragma once

// Row passes over a chunk of raw logits [rows,V] on the CPU. One routine computes the
// log-probability for every op, so that all of them give the same bits.

#include <c10/util/FunctionRef.h>

#include <cstdint>

namespace hone::kernels {

template <typename T>
struct HeadRows {
  T* logits;               // [rows,V] raw, row-contiguous; the gradient passes overwrite it
  const int64_t* targets;  // [rows]
  int64_t rows, vocabulary;
  double temperature;
  T* logprobs;  // [rows]
  T* entropy;   // [rows], of softmax(logits / temperature); may be null
};

/// Fills logprobs and entropy; logits are left as they are.
template <typename T>
void head_rows_forward(const HeadRows<T>& chunk);

/// Fills logprobs and entropy, asks `gradient(row, logprob)` for d loss / d logprob of each row
/// and leaves d loss / d logits in `logits`. Rows are visited in parallel, each once.
template <typename T>
void head_rows_fused(const HeadRows<T>& chunk,
                     c10::function_ref<T(int64_t row, T logprob)> gradient);

/// d loss / d logprob and d loss / d entropy of each row; either may be null.
template <typename T>
struct HeadRowGrads {
  const T* logprob;
  const T* entropy;
};

/// Reads logprobs and entropy as the forward pass left them (entropy only where it has a gradient);
/// leaves d loss / d logits in `logits`: with t = log p,
/// (g (1[target] - p) - h p (t + entropy)) / temperature.
template <typename T>
void head_rows_backward(const HeadRows<T>& chunk, const HeadRowGrads<T>& grads);

}  // namespace hone::kernels
