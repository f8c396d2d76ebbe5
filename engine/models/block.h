#pragma once

// The one transformer block. What it has (biases, layer or RMS norms, gate, q/k norms) is what the
// family's row made the layout declare; an undefined tensor is a part that the model lacks.

#include <ATen/core/Tensor.h>

#include <array>
#include <vector>

#include "engine/models/layout.h"
#include "kernels/ops.h"

namespace hone::engine {

/// The type of the residual stream: float32 for float16 and bfloat16 models, whose roundings would
/// add up from layer to layer, else the parameters' own.
at::ScalarType stream_type(at::ScalarType parameters);

/// A parameter as products read it: bfloat16, float32 and float64 as they are, float16 widened to
/// float32 (exactly), since CPUs multiply float16 slower than that or not at all. A copy for
/// the duration of its use: in memory the model stays float16.
at::Tensor operand(const at::Tensor& parameter);

/// A parameter in bfloat16, for products of a float32 model: cast at each use, so that gradients go
/// back to it, or once for many uses without gradient.
class CastOperand {
 public:
  at::Tensor operator()(const at::Tensor& parameter) const {
    return held_.defined() ? held_ : parameter.to(at::kBFloat16);
  }
  void hold(const at::Tensor& parameter);
  void release() { held_ = at::Tensor(); }

 private:
  at::Tensor held_;
};

/// y = x W^T + b.
struct Projection {
  at::Tensor weight;  // [out, in]
  at::Tensor bias;    // [out], or undefined
  bool cast = false;  // operands and result in bfloat16 whatever the weight's type
  CastOperand cast_weight;

  Projection() = default;
  Projection(const LeafPair& leaves, const ParameterArena& arena);
  at::Tensor operator()(const at::Tensor& x) const;
  /// residual + y; a new tensor.
  at::Tensor added(const at::Tensor& residual, const at::Tensor& x) const;
  /// residual += y, without gradient.
  void add_to(at::Tensor& residual, const at::Tensor& x) const;

 private:
  at::Tensor matrix() const;
};

/// LayerNorm (Ba et al. 2016) when it has a bias, else RMS norm (Zhang and Sennrich 2019), in
/// the type of its weight as an operand.
struct Norm {
  at::Tensor weight, bias;  // [size]
  bool cast = false;        // the result in bfloat16

  Norm() = default;
  Norm(const LeafPair& leaves, const ParameterArena& arena);
  at::Tensor operator()(const at::Tensor& x, double eps) const;
};

struct TransformerBlock {
  TransformerBlock(const BlockLayout& layout, const ParameterArena& arena,
                   const ModelConfig& config, int64_t layer);

  /// x [N,H] -> normed and projected q, k, v side by side, as `attention` takes them.
  at::Tensor attention_input(const at::Tensor& x) const;
  /// What `attention` gave [N, heads * attention_head_dim] -> input of attention_output [N, q].
  at::Tensor attended(const at::Tensor& x) const;
  /// x [N,H] -> input of `down` [N,F].
  at::Tensor mlp_input(const at::Tensor& x) const;

  /// Whether kernels::transformer_block computes this block: RMS norms, SwiGLU, no bias but that of
  /// qkv, no norm of queries and keys, heads as wide as `attention` takes them.
  bool is_llama() const;
  /// Products in bfloat16 over float32 weights, as far as the ops of this file go.
  void cast_products(bool on);
  /// Weights of those products cast once, until released; whoever changes a weight releases first.
  void hold_casts();
  void release_casts();

  /// As kernels::transformer_block takes them.
  std::vector<at::Tensor> weights() const;

  Projection qkv, up;                 // [q+2kv,H] [F,H], [2F,H] gate and up
  Projection attention_output, down;  // [H,q] [H,F]; what they give is added to the stream
  Norm attention_norm, mlp_norm, query_norm, key_norm;
  Activation activation;
  kernels::AttentionOptions attention;

 private:
  std::array<Projection*, 4> projections() { return {&qkv, &up, &attention_output, &down}; }
  at::Tensor with_normed_heads(const at::Tensor& qkv) const;

  double eps_;
  int64_t head_dim_;
};

}  // namespace hone::engine
