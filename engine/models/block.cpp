#include "engine/models/block.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/relu.h>

namespace hone::engine {
namespace {

at::Tensor leaf(const ParameterArena& arena, int64_t index) {
  return index < 0 ? at::Tensor() : arena.leaf(index);
}

}  // namespace

Projection::Projection(const LeafPair& leaves, const ParameterArena& arena)
    : weight(leaf(arena, leaves.weight)), bias(leaf(arena, leaves.bias)) {}

at::Tensor Projection::operator()(const at::Tensor& x) const {
  return bias.defined() ? at::addmm(bias, x, weight.t()) : at::mm(x, weight.t());
}

at::Tensor Projection::added(const at::Tensor& residual, const at::Tensor& x) const {
  if (residual.scalar_type() != weight.scalar_type()) return residual.add((*this)(x));
  return at::addmm(bias.defined() ? residual.add(bias) : residual, x, weight.t());
}

void Projection::add_to(at::Tensor& residual, const at::Tensor& x) const {
  if (residual.scalar_type() != weight.scalar_type()) {
    residual.add_((*this)(x));
    return;
  }
  residual.addmm_(x, weight.t());
  if (bias.defined()) residual.add_(bias);
}

Norm::Norm(const LeafPair& leaves, const ParameterArena& arena)
    : weight(leaf(arena, leaves.weight)), bias(leaf(arena, leaves.bias)) {}

at::Tensor Norm::operator()(const at::Tensor& x, double eps) const {
  const at::Tensor typed = x.to(weight.scalar_type());
  if (!bias.defined()) return kernels::rms_norm(typed, weight, eps);
  return at::layer_norm(typed, weight.sizes(), weight, bias, eps);
}

TransformerBlock::TransformerBlock(const BlockLayout& layout, const ParameterArena& arena,
                                   const ModelConfig& config, int64_t layer)
    : attention_output(layout.attention_output, arena),
      down(layout.down, arena),
      qkv_(layout.qkv, arena),
      up_(layout.up, arena),
      attention_norm_(layout.attention_norm, arena),
      mlp_norm_(layout.mlp_norm, arena),
      query_norm_(layout.query_norm, arena),
      key_norm_(layout.key_norm, arena),
      activation_(find_activation(find_family(config.family, "model"), config.activation, "model")),
      eps_(config.norm_eps),
      head_dim_(config.head_dim) {
  attention.heads = config.heads;
  attention.kv_heads = config.kv_heads;
  attention.head_dim = config.attention_head_dim();
  attention.scale = config.attention_scale(layer);
  attention.window = config.window(layer);
}

at::Tensor TransformerBlock::attention_input(const at::Tensor& x) const {
  at::Tensor qkv = qkv_(attention_norm_(x, eps_));
  if (query_norm_.weight.defined()) qkv = with_normed_heads(qkv);
  if (head_dim_ == attention.head_dim) return qkv;
  // A zero more per head changes no score, and the value's zero is cut off in attended().
  const int64_t heads = attention.heads + 2 * attention.kv_heads;
  return at::constant_pad_nd(qkv.view({-1, heads, head_dim_}), {0, 1})
      .view({-1, heads * attention.head_dim});
}

at::Tensor TransformerBlock::attended(const at::Tensor& x) const {
  if (head_dim_ == attention.head_dim) return x;
  return x.view({-1, attention.heads, attention.head_dim})
      .narrow(2, 0, head_dim_)
      .reshape({-1, attention.heads * head_dim_});
}

at::Tensor TransformerBlock::with_normed_heads(const at::Tensor& qkv) const {
  const int64_t n = qkv.size(0), dim = head_dim_;
  const int64_t query = attention.heads * dim, key = attention.kv_heads * dim;
  const auto normed = [&](int64_t start, int64_t width, const Norm& norm) {
    const at::Tensor heads = qkv.narrow(1, start, width).reshape({n * width / dim, dim});
    return norm(heads, eps_).view({n, width});
  };
  return at::cat({normed(0, query, query_norm_), normed(query, key, key_norm_),
                  qkv.narrow(1, query + key, key)},
                 1);
}

at::Tensor TransformerBlock::mlp_input(const at::Tensor& x) const {
  const at::Tensor up = up_(mlp_norm_(x, eps_));
  switch (activation_) {
    case Activation::kSilu:  // the families that have it are gated
      return kernels::swiglu(up);
    case Activation::kGeluTanh:
      return at::gelu(up, "tanh");
    case Activation::kGelu:
      return at::gelu(up, "none");
    case Activation::kRelu:
      return at::relu(up);
  }
  return up;
}

}  // namespace hone::engine
