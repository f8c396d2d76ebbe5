#include "engine/models/block.h"

#include <ATen/core/grad_mode.h>
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

at::ScalarType stream_type(at::ScalarType parameters) {
  return parameters == at::kBFloat16 || parameters == at::kHalf ? at::kFloat : parameters;
}

at::Tensor operand(const at::Tensor& parameter) {
  return parameter.defined() && parameter.scalar_type() == at::kHalf ? parameter.to(at::kFloat)
                                                                     : parameter;
}

Projection::Projection(const LeafPair& leaves, const ParameterArena& arena)
    : weight(leaf(arena, leaves.weight)), bias(leaf(arena, leaves.bias)) {}

void CastOperand::hold(const at::Tensor& parameter) {
  const at::NoGradGuard no_grad;
  held_ = parameter.to(at::kBFloat16);
}

at::Tensor Projection::matrix() const { return cast ? cast_weight(weight) : operand(weight); }

at::Tensor Projection::operator()(const at::Tensor& x) const {
  const at::Tensor w = matrix().t(), typed = x.to(w.scalar_type());
  if (!bias.defined()) return at::mm(typed, w);
  return at::addmm(operand(bias).to(w.scalar_type()), typed, w);
}

at::Tensor Projection::added(const at::Tensor& residual, const at::Tensor& x) const {
  if (cast || residual.scalar_type() != x.scalar_type()) return residual.add((*this)(x));
  return at::addmm(bias.defined() ? residual.add(bias) : residual, x, operand(weight).t());
}

void Projection::add_to(at::Tensor& residual, const at::Tensor& x) const {
  if (cast || residual.scalar_type() != x.scalar_type()) {
    residual.add_((*this)(x));
    return;
  }
  residual.addmm_(x, operand(weight).t());
  if (bias.defined()) residual.add_(bias);
}

Norm::Norm(const LeafPair& leaves, const ParameterArena& arena)
    : weight(leaf(arena, leaves.weight)), bias(leaf(arena, leaves.bias)) {}

at::Tensor Norm::operator()(const at::Tensor& x, double eps) const {
  const at::Tensor scale = operand(weight), typed = x.to(scale.scalar_type());
  const at::Tensor normed = bias.defined()
                                ? at::layer_norm(typed, scale.sizes(), scale, operand(bias), eps)
                                : kernels::rms_norm(typed, scale, eps);
  return cast ? normed.to(at::kBFloat16) : normed;
}

TransformerBlock::TransformerBlock(const BlockLayout& layout, const ParameterArena& arena,
                                   const ModelConfig& config, int64_t layer)
    : qkv(layout.qkv, arena),
      up(layout.up, arena),
      attention_output(layout.attention_output, arena),
      down(layout.down, arena),
      attention_norm(layout.attention_norm, arena),
      mlp_norm(layout.mlp_norm, arena),
      query_norm(layout.query_norm, arena),
      key_norm(layout.key_norm, arena),
      activation(find_activation(find_family(config.family, "model"), config.activation, "model")),
      eps_(config.norm_eps),
      head_dim_(config.head_dim) {
  attention.heads = config.heads;
  attention.kv_heads = config.kv_heads;
  attention.head_dim = config.attention_head_dim();
  attention.scale = config.attention_scale(layer);
  attention.window = config.window(layer);
}

at::Tensor TransformerBlock::attention_input(const at::Tensor& x) const {
  at::Tensor projected = qkv(attention_norm(x, eps_));
  if (query_norm.weight.defined()) projected = with_normed_heads(projected);
  if (head_dim_ == attention.head_dim) return projected;
  // A zero more per head changes no score, and the value's zero is cut off in attended().
  const int64_t heads = attention.heads + 2 * attention.kv_heads;
  return at::constant_pad_nd(projected.view({-1, heads, head_dim_}), {0, 1})
      .view({-1, heads * attention.head_dim});
}

at::Tensor TransformerBlock::attended(const at::Tensor& x) const {
  if (head_dim_ == attention.head_dim) return x;
  return x.view({-1, attention.heads, attention.head_dim})
      .narrow(2, 0, head_dim_)
      .reshape({-1, attention.heads * head_dim_});
}

void TransformerBlock::cast_products(bool on) {
  for (Projection* projection : projections()) projection->cast = on;
  for (Norm* norm : {&attention_norm, &mlp_norm, &query_norm, &key_norm}) norm->cast = on;
}

void TransformerBlock::hold_casts() {
  for (Projection* projection : projections()) {
    if (projection->cast) projection->cast_weight.hold(projection->weight);
  }
}

void TransformerBlock::release_casts() {
  for (Projection* projection : projections()) projection->cast_weight.release();
}

bool TransformerBlock::is_llama() const {
  for (const at::Tensor& other : {up.bias, attention_output.bias, down.bias, attention_norm.bias,
                                  mlp_norm.bias, query_norm.weight, key_norm.weight}) {
    if (other.defined()) return false;
  }
  return activation == Activation::kSilu && up.weight.size(0) == 2 * down.weight.size(1) &&
         head_dim_ == attention.head_dim;
}

std::vector<at::Tensor> TransformerBlock::weights() const {
  std::vector<at::Tensor> all{attention_norm.weight, qkv.weight, attention_output.weight,
                              mlp_norm.weight,       up.weight,  down.weight};
  if (qkv.bias.defined()) all.push_back(qkv.bias);
  for (at::Tensor& weight : all) weight = operand(weight);
  return all;
}

at::Tensor TransformerBlock::with_normed_heads(const at::Tensor& projected) const {
  const int64_t n = projected.size(0), dim = head_dim_;
  const int64_t query = attention.heads * dim, key = attention.kv_heads * dim;
  const auto normed = [&](int64_t start, int64_t width, const Norm& norm) {
    const at::Tensor heads = projected.narrow(1, start, width).reshape({n * width / dim, dim});
    return norm(heads, eps_).view({n, width});
  };
  return at::cat({normed(0, query, query_norm), normed(query, key, key_norm),
                  projected.narrow(1, query + key, key)},
                 1);
}

at::Tensor TransformerBlock::mlp_input(const at::Tensor& x) const {
  const at::Tensor y = up(mlp_norm(x, eps_));
  switch (activation) {
    case Activation::kSilu:  // the families that have it are gated
      return kernels::swiglu(y);
    case Activation::kGeluTanh:
      return at::gelu(y, "tanh");
    case Activation::kGelu:
      return at::gelu(y, "none");
    case Activation::kRelu:
      return at::relu(y);
  }
  return y;
}

}  // namespace hone::engine
