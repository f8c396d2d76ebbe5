#pragma once

// The public, typed C++ face of the `hone` torch ops. Every function here goes through the
// dispatcher (CPU or CUDA, with autograd where a gradient exists), so that the engine and a Python
// user of `torch.ops.hone.*` run the same code.
//
// Layout: token streams are packed. A batch of B sequences is one flat stream of N tokens with
// `cu_seqlens` [B+1] int64, cu_seqlens[0] = 0, cu_seqlens[B] = N; `advantages` also takes [B,T].
//
// Types: float32 and float64; the model ops (head, transformer pieces, sample, dropout) also take
// bfloat16, compute in float32 and round their results once. Log-probabilities, entropies, losses
// and metrics of bfloat16 input are float32.
//
// Errors: c10::Error (RuntimeError in Python) that names op, argument, expected and got.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>

#include "kernels/advantage_ops.h"
#include "kernels/loss_ops.h"

namespace hone::kernels {

// ---------------------------------------------------------------- optimizer on flat arenas

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  /// "torch": eps added to sqrt(v_hat). "tf1": eps outside the bias correction (ALGORITHMS 39).
  std::string eps_mode = "torch";
};
/// In place over flat arenas [P] (param, m, v). Slice s covers [offsets[s], offsets[s+1]) with its
/// own lr and weight decay (decoupled); what lies outside is not touched. grad_scale [] multiplies
/// grad (clipping). step counts from 1. grad may be bfloat16 beside a float32 param. `rounded` [P]
/// bfloat16: the copy that the model computes with, written as the new param rounded to nearest;
/// param then is its float32 master.
void adamw_step(const Tensor& param, const Tensor& grad, const Tensor& m, const Tensor& v,
                at::IntArrayRef offsets, at::ArrayRef<double> lr, at::ArrayRef<double> weight_decay,
                const Tensor& grad_scale, int64_t step, const AdamWOptions& options,
                const OptionalTensor& rounded = std::nullopt);

/// Euclidean norm of a flat arena (float32, float64 or bfloat16), accumulated in double in a fixed
/// order. [] float64.
Tensor grad_norm(const Tensor& grad);

/// x *= factor, in place over an arena of float32, float64 or bfloat16; factor [] float64 stays on
/// its device.
void scale(const Tensor& x, const Tensor& factor);

// ---------------------------------------------------------------- transformer pieces (packed)

/// y = x / sqrt(mean(x^2) + eps) * weight; x [N,H], weight [H]. Differentiable.
Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps);

/// silu(x[:, :F]) * x[:, F:]; x [N,2F] -> [N,F]. Differentiable.
Tensor swiglu(const Tensor& x);

struct AttentionOptions {
  int64_t heads = 1, kv_heads = 1, head_dim = 1;
  double scale = 0.0;  // 0 = 1/sqrt(head_dim)
  int64_t window = 0;  // sliding window; 0 = none
};
/// Causal self-attention inside each sequence, with rotary embedding applied on load.
/// qkv [N,(heads+2*kv_heads)*head_dim] straight from one projection, cos/sin [P,head_dim/2] tables
/// (Hugging Face "rotate half" pairing i, i+head_dim/2) in the type of qkv or, for bfloat16, better
/// in float32; position of a token = its index in its sequence.
/// -> [N, heads*head_dim]. Differentiable in qkv.
Tensor attention(const Tensor& qkv, const Tensor& cu_seqlens, const Tensor& cos, const Tensor& sin,
                 const AttentionOptions& options);

/// A whole pre-norm block on the CPU as one differentiable op:
///   h = x + attention(rms_norm(x, w0) w1^T [+ b]) w2^T,  y = h + swiglu(rms_norm(h, w3) w4^T) w5^T
/// weights: attention_norm [H], qkv [(heads+2*kv_heads)*head_dim,H], attention_output
/// [H,heads*head_dim], mlp_norm [H], gate_up [2F,H], down [H,F], and perhaps qkv_bias. x [N,H]
/// float32 or float64. `bfloat16` (float32 x only): the operands of the matrix products, forward
/// and backward, are rounded to bfloat16; sums, residual stream, norms, softmax and gradients of
/// the weights are float32 (mixed precision with float32 master weights). rows [M] int64, strictly
/// ascending: those rows of y alone, [M,H]; all else but keys and values is computed for them only.
Tensor transformer_block(const Tensor& x, at::TensorList weights, const Tensor& cu_seqlens,
                         const Tensor& cos, const Tensor& sin, const AttentionOptions& options,
                         double eps, bool bfloat16,
                         const std::optional<Tensor>& rows = std::nullopt);

/// One decode step for R rows: rotates and writes this token's k, v into the block cache and
/// attends over the row's context. qkv [R,(heads+2*kv_heads)*head_dim]; k_cache, v_cache
/// [blocks, block_size, kv_heads, head_dim] written in place; block_table [R, max_blocks] int32;
/// positions [R] int64 = index of this token in its sequence. Row r reads only its own blocks. Rows
/// may be tokens of one sequence: all are written before any is read.
Tensor decode_attention(const Tensor& qkv, const Tensor& k_cache, const Tensor& v_cache,
                        const Tensor& block_table, const Tensor& positions, const Tensor& cos,
                        const Tensor& sin, const AttentionOptions& options);

struct SampleOptions {
  double temperature = 1.0;  // 0 = greedy, ties to the lowest id
  int64_t top_k = 0;         // 0 = off
  double top_p = 1.0;
  double min_p = 0.0;
};
struct Sampled {
  Tensor tokens;        // [R] int64
  Tensor logprobs;      // [R] under the distribution really sampled from
  Tensor raw_logprobs;  // [R] under softmax(logits)
  Tensor entropy;       // [R] of softmax(logits / temperature)
};
/// keys [R,3] int64 = (prompt, sample, position): the draw of a row depends on (seed, its key,
/// its logits) only (Philox 4x32-10), so not on batch size or order. logits [R,V].
Sampled sample(const Tensor& logits, const Tensor& keys, int64_t seed,
               const SampleOptions& options);

/// Inverted dropout whose mask depends on (seed, element index) only. Differentiable. p = 0:
/// identity.
Tensor dropout(const Tensor& x, double p, int64_t seed);

}  // namespace hone::kernels
