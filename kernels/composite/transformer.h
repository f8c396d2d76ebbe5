#pragma once

// The transformer pieces in plain ATen operations, correct on any device: what CUDA runs for the
// ops that have no kernel of their own yet. Arguments are those of the ops of the same name, after
// the same checks.

#include <ATen/core/Tensor.h>

#include <tuple>

#include "kernels/attention_shape.h"

namespace hone::kernels::composite {

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);
std::tuple<at::Tensor, at::Tensor> rms_norm_backward(const at::Tensor& grad, const at::Tensor& x,
                                                     const at::Tensor& weight, double eps);

at::Tensor swiglu(const at::Tensor& x);
at::Tensor swiglu_backward(const at::Tensor& grad, const at::Tensor& x);

/// {out [N,heads*head_dim], lse [heads,N]}, one sequence after the other. Reads cu_seqlens on the
/// host.
std::tuple<at::Tensor, at::Tensor> attention_forward(const AttentionShape& shape,
                                                     const at::Tensor& qkv,
                                                     const at::Tensor& cu_seqlens,
                                                     const at::Tensor& cos, const at::Tensor& sin);
at::Tensor attention_backward(const AttentionShape& shape, const at::Tensor& grad,
                              const at::Tensor& qkv, const at::Tensor& cu_seqlens,
                              const at::Tensor& cos, const at::Tensor& sin, const at::Tensor& out,
                              const at::Tensor& lse);

at::Tensor decode_attention(const AttentionShape& shape, const at::Tensor& qkv,
                            const at::Tensor& k_cache, const at::Tensor& v_cache,
                            const at::Tensor& block_table, const at::Tensor& positions,
                            const at::Tensor& cos, const at::Tensor& sin);

}  // namespace hone::kernels::composite
