#include "engine/models/block.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mm.h>

namespace hone::engine {

TransformerBlock::TransformerBlock(const BlockLayout& layout, const ParameterArena& arena) {
  const auto leaf = [&](int64_t index) { return index < 0 ? at::Tensor() : arena.leaf(index); };
  qkv = leaf(layout.qkv);
  attention_output = leaf(layout.attention_output);
  gate_up = leaf(layout.gate_up);
  down = leaf(layout.down);
  attention_norm = leaf(layout.attention_norm);
  mlp_norm = leaf(layout.mlp_norm);
  qkv_bias = leaf(layout.qkv_bias);
  query_norm = leaf(layout.query_norm);
  key_norm = leaf(layout.key_norm);
}

at::Tensor TransformerBlock::project(const at::Tensor& x, const ModelConfig& config) const {
  at::Tensor projected = qkv_bias.defined() ? at::addmm(qkv_bias, x, qkv.t()) : at::mm(x, qkv.t());
  if (!query_norm.defined()) return projected;
  const int64_t n = x.size(0), dim = config.head_dim;
  const int64_t query = config.heads * dim, key = config.kv_heads * dim;
  const auto normed = [&](int64_t start, int64_t width, const at::Tensor& weight) {
    const at::Tensor heads = projected.narrow(1, start, width).reshape({n * width / dim, dim});
    return kernels::rms_norm(heads, weight, config.norm_eps).view({n, width});
  };
  return at::cat({normed(0, query, query_norm), normed(query, key, key_norm),
                  projected.narrow(1, query + key, key)},
                 1);
}

kernels::AttentionOptions attention_options(const ModelConfig& config) {
  kernels::AttentionOptions options;
  options.heads = config.heads;
  options.kv_heads = config.kv_heads;
  options.head_dim = config.head_dim;
  options.window = config.sliding_window;
  return options;
}

}  // namespace hone::engine
