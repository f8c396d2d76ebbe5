#pragma once

// The public, typed C++ face of the `hone` torch ops. Every function here goes through the
// dispatcher (CPU or CUDA, with autograd where a gradient exists), so that the engine and a Python
// user of `torch.ops.hone.*` run the same code.
//
// Layout: token streams are packed. A batch of B sequences is one flat stream of N tokens with
// `cu_seqlens` [B+1] int64, cu_seqlens[0] = 0, cu_seqlens[B] = N. Nothing is padded.
//
// Types: float32 and float64; the model ops (head, transformer pieces, sample, dropout) also take
// bfloat16, compute in float32 and round their results once. Log-probabilities, entropies, losses
// and metrics of bfloat16 input are float32.
//
// Errors: c10::Error (RuntimeError in Python) that names op, argument, expected and got.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <tuple>

#include "kernels/loss_ops.h"

namespace hone::kernels {

constexpr double kNoClamp = std::numeric_limits<double>::infinity();

// ---------------------------------------------------------------- advantages

struct AdvantageOptions {
  /// Weight of the reference KL inside the reward (beta).
  double kl_coef = 0.0;
  /// "k1" d, "k2" d^2/2, "k3" e^-d - 1 + d, "abs" |d|, with d = logp_old - logp_ref.
  std::string kl_estimator = "k1";
  /// |d| is clamped to this before the estimator (ALGORITHMS 28).
  double kl_clamp = kNoClamp;
  /// Where a sequence's score is added: "last" = its last entry with mask 1; "after_last" = the
  /// entry after it when the segment carries one (EOS + 1 of TRL and sfd), else the last.
  std::string placement = "last";
  double gamma = 1.0;
  double lambda = 0.95;
};

struct Advantages {
  Tensor advantages;  // [N] not whitened
  Tensor returns;     // [N] advantages + values where a step takes part
  Tensor rewards;     // [N] per-token reward after KL penalty and score
  Tensor stats;  // [4] float64 on the device: sum, sum of squares of advantages where mask = 1,
                 // count, sum of KL
};

/// One pass over response tokens: KL penalty, reward placement, reverse GAE scan, whitening sums.
/// logp_old, logp_ref, values [N] float32/float64; scores [B]; cu_seqlens [B+1];
/// mask [N] uint8/bool: a masked step is skipped, its successor's value and trace carry over
/// (multi-turn tool tokens); its inputs are not read and its outputs are 0. token_rewards [N]
/// (process rewards, or rewards whitened by the caller with kl_coef 0 and scores 0) are added to
/// the reward of every step that takes part. The value after the last step of a sequence is 0.
/// A sequence without a mask = 1 entry yields zeros; its score is dropped.
/// placement "after_last": the entry that receives the score is a step of the recursion although
/// its mask is 0: reward = score, no KL, its value is bootstrapped from. Its return is given (the
/// value loss may train it), its advantage is 0 and it does not enter `stats` (golden gae_p1/*).
/// Not differentiable.
Advantages advantages(const Tensor& logp_old, const Tensor& logp_ref, const Tensor& values,
                      const Tensor& scores, const Tensor& cu_seqlens, const OptionalTensor& mask,
                      const AdvantageOptions& options,
                      const OptionalTensor& token_rewards = std::nullopt);

/// `stats` as `whiten` takes them, of any x [N] where mask = 1: sum, sum of squares, count, 0.
/// [4] float64. Stats of several batches or ranks add up to the stats of all.
Tensor moments(const Tensor& x, const OptionalTensor& mask);

/// (x - mean) / sqrt(var + 1e-8) with the moments in `stats` (as `advantages` left them), any
/// shape. `unbiased`: Bessel-corrected variance. `shift_mean` false keeps the mean: + mean
/// (ALGORITHMS 27, 31). Every entry of x is transformed; masked ones are the caller's to ignore.
Tensor whiten(const Tensor& x, const Tensor& stats, bool unbiased, bool shift_mean);

/// Per-group advantages of scores [G*n] (n consecutive samples per prompt). kind: "grpo" (mean,
/// unbiased std + eps), "dr_grpo" (mean only), "rloo" (leave-one-out mean). Groups of one give 0.
Tensor group_advantages(const Tensor& scores, int64_t group_size, const std::string& kind,
                        double eps);

// ---------------------------------------------------------------- optimizer on flat arenas

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  /// "torch": eps added to sqrt(v_hat). "tf1": eps outside the bias correction (ALGORITHMS 39).
  std::string eps_mode = "torch";
};
/// In place over flat arenas [P] (param, m, v). Slice s covers [offsets[s], offsets[s+1]) with its
/// own lr and weight decay (decoupled). grad_scale [] multiplies grad (clipping). step counts
/// from 1.
void adamw_step(const Tensor& param, const Tensor& grad, const Tensor& m, const Tensor& v,
                at::IntArrayRef offsets, at::ArrayRef<double> lr, at::ArrayRef<double> weight_decay,
                const Tensor& grad_scale, int64_t step, const AdamWOptions& options);

/// Euclidean norm of a flat arena, accumulated in double in a fixed order. [] float64.
Tensor grad_norm(const Tensor& grad);

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
/// the weights are float32 (mixed precision with float32 master weights).
Tensor transformer_block(const Tensor& x, at::TensorList weights, const Tensor& cu_seqlens,
                         const Tensor& cos, const Tensor& sin, const AttentionOptions& options,
                         double eps, bool bfloat16);

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
