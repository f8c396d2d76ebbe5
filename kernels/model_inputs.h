#pragma once

// Checks of the model ops that their CPU and CUDA halves share, so that both refuse the same input
// in the same words. Contents of integer tensors are read on the CPU only: reading them on CUDA
// would stop the stream.

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "kernels/attention_shape.h"

namespace hone::kernels {

void check_rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

void check_swiglu(const at::Tensor& x);

void check_dropout(const at::Tensor& x, double p);

void check_sample(const at::Tensor& logits, const at::Tensor& keys, double temperature,
                  int64_t top_k, double top_p, double min_p);

/// Also that no sequence is longer than the tables.
AttentionShape check_attention(const at::Tensor& qkv, const at::Tensor& cu_seqlens,
                               const at::Tensor& cos, const at::Tensor& sin, int64_t heads,
                               int64_t kv_heads, int64_t head_dim, double scale, int64_t window);

/// Also that every block a row will touch exists: a bad table must not write elsewhere.
AttentionShape check_decode_attention(const at::Tensor& qkv, const at::Tensor& k_cache,
                                      const at::Tensor& v_cache, const at::Tensor& block_table,
                                      const at::Tensor& positions, const at::Tensor& cos,
                                      const at::Tensor& sin, int64_t heads, int64_t kv_heads,
                                      int64_t head_dim, double scale, int64_t window);

}  // namespace hone::kernels
