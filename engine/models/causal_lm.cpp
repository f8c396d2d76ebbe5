#include "engine/models/causal_lm.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/repeat_interleave.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <optional>
#include <string>
#include <utility>

#include "data/error.h"
#include "engine/models/block.h"
#include "engine/models/families.h"
#include "engine/models/rope.h"
#include "kernels/ops.h"

namespace hone::engine {
namespace {

/// Independent streams from one seed: splitmix64's finaliser over (seed, stream).
uint64_t mix(uint64_t seed, uint64_t stream) {
  uint64_t z = seed + 0x9E3779B97F4A7C15ull * (stream + 1);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

/// FNV-1a, so that a parameter's random numbers depend on its name, not on what stands beside it.
uint64_t hash_name(const std::string& name) {
  uint64_t hash = 0xCBF29CE484222325ull;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3ull;
  return hash;
}

void fill_normal(at::Tensor parameter, double std, uint64_t seed, const std::string& name) {
  at::Generator generator = at::detail::createCPUGenerator(mix(seed, hash_name(name)));
  const auto cpu = at::empty(parameter.sizes(), parameter.options().device(at::kCPU));
  parameter.copy_(cpu.normal_(0.0, std, generator));
}

/// Index of every packed token in its sequence. [N] int64.
at::Tensor packed_positions(const at::Tensor& tokens, const at::Tensor& cu_seqlens) {
  const at::Tensor starts = cu_seqlens.narrow(0, 0, cu_seqlens.size(0) - 1);
  return at::arange(tokens.size(0), tokens.options())
      .sub_(at::repeat_interleave(starts, cu_seqlens.diff(), 0, tokens.size(0)));
}

/// Learned positions end where their table does.
void check_positions(const at::Tensor& positions, int64_t limit) {
  if (positions.size(0) <= limit) return;
  const auto last = positions.max().item<int64_t>();
  if (last < limit) return;
  throw data::InputError(
      "model", "sequence",
      "at most " + std::to_string(limit) + " tokens (the positions that the model learned)",
      std::to_string(last + 1));
}

/// The blocks' parameters while a pass goes through them, where they are not all here anyway: the
/// backward pass, announced by the gradient of each block's output, goes the other way.
class BlocksInTurn {
 public:
  BlocksInTurn(ParameterKeeper* keeper, int64_t layers) : keeper_(keeper), layers_(layers) {
    if (keeper_) keeper_->begin(ParameterKeeper::Pass::kForward);
  }
  /// `x` [N,H] goes into block `layer`, or, after the last, out of it.
  void enter(int64_t layer, const at::Tensor& x) const {
    if (!keeper_) return;
    if (layer < layers_) {
      keeper_->enter(layer);
    } else {
      keeper_->end();
    }
    if (!x.requires_grad() || !keeper_->in_parts()) return;
    x.register_hook([keeper = keeper_, layer, layers = layers_](const at::Tensor&) {
      if (layer == layers) keeper->begin(ParameterKeeper::Pass::kBackward);
      if (layer > 0) {
        keeper->enter(layer - 1);
      } else {
        keeper->end();
      }
    });
  }

 private:
  ParameterKeeper* keeper_;
  int64_t layers_;
};

}  // namespace

void KvCache::copy_block(int64_t from, int64_t to) {
  const at::NoGradGuard no_grad;
  for (at::Tensor& blocks : keys) blocks.select(0, to).copy_(blocks.select(0, from));
  for (at::Tensor& blocks : values) blocks.select(0, to).copy_(blocks.select(0, from));
}

CausalLM::CausalLM(ModelConfig config, HeadKind head, at::ScalarType dtype, at::Device device)
    : config_(std::move(config)), head_(head), head_cast_(std::make_unique<CastOperand>()) {
  config_.validate("model");
  ModelLayout layout = declare_parameters(config_, head, parameters_);
  parameters_.allocate(dtype, device);
  embedding_ = layout.embedding;
  positions_ = layout.positions;
  lm_head_ = layout.lm_head;
  scalar_head_ = layout.scalar_head;
  final_norm_ = std::make_unique<Norm>(layout.final_norm, parameters_);
  for (const BlockLayout& block : layout.blocks) {
    blocks_.emplace_back(block, parameters_, config_, static_cast<int64_t>(blocks_.size()));
  }
}

CausalLM::~CausalLM() = default;

void CausalLM::initialize(uint64_t seed) {
  const at::NoGradGuard no_grad;
  const Family& family = find_family(config_.family, "model");
  const double residual = 1.0 / std::sqrt(2.0 * static_cast<double>(config_.layers));
  std::vector<std::string> scaled;
  for (int64_t layer = 0; layer < config_.layers; ++layer) {
    scaled.push_back(layer_name(family.names.attention_output, layer) + ".weight");
    scaled.push_back(layer_name(family.names.down, layer) + ".weight");
  }
  for (const ParameterSlice& slice : parameters_.slices()) {
    at::Tensor values = parameters_.slice(slice.name);
    if (slice.name == family.names.scalar_head) {
      initialize_scalar_head(seed);
    } else if (slice.shape.size() == 2) {
      const bool output = std::find(scaled.begin(), scaled.end(), slice.name) != scaled.end();
      fill_normal(values, config_.initializer_range * (output ? residual : 1.0), seed, slice.name);
    } else {
      values.fill_(slice.name.ends_with(".bias") ? 0.0 : 1.0);
    }
  }
}

void CausalLM::initialize_scalar_head(uint64_t seed) {
  const at::NoGradGuard no_grad;
  const Family& family = find_family(config_.family, "model");
  const double std = 1.0 / std::sqrt(static_cast<double>(config_.hidden_size + 1));
  fill_normal(parameters_.slice(family.names.scalar_head), std, seed, family.names.scalar_head);
}

at::Tensor CausalLM::lm_head() const {
  if (head_ != HeadKind::kLanguageModel) {
    throw data::InputError("model", "head", "a language model", "a scalar head");
  }
  return rounds_head() ? (*head_cast_)(head_leaf()) : operand(head_leaf());
}

at::Tensor CausalLM::decoding_head() const {
  return casts_head() ? lm_head() : operand(head_leaf());
}

void CausalLM::set_bfloat16_products(bool on) {
  release_casts();
  bfloat16_products_ = on;
  const at::Tensor& data = parameters_.data();
  casts_ = on && !data.is_cpu() && data.scalar_type() == at::kFloat;
  for (TransformerBlock& block : blocks_) block.cast_products(casts_);
  final_norm_->cast = casts_head();
}

void CausalLM::hold_casts() {
  for (TransformerBlock& block : blocks_) block.hold_casts();
  if (casts_head()) head_cast_->hold(head_leaf());
}

void CausalLM::release_casts() {
  for (TransformerBlock& block : blocks_) block.release_casts();
  head_cast_->release();
}

at::Tensor CausalLM::position_embedding() const {
  return positions_ < 0 ? at::Tensor() : operand(parameters_.leaf(positions_));
}

at::Tensor CausalLM::scalar_head() const {
  if (head_ != HeadKind::kScalar) {
    throw data::InputError("model", "head", "a scalar head", "a language model");
  }
  return operand(parameters_.leaf(scalar_head_));
}

void CausalLM::reserve_positions(int64_t positions) {
  if (cos_.defined() && cos_.size(0) >= positions) return;
  const auto rounded =
      static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(positions, 64))));
  std::tie(cos_, sin_) = rope_tables(
      config_, rounded, stream_type(parameters_.data().scalar_type()), parameters_.data().device());
}

/// Rotates keys and scatters keys and values of packed tokens into the cache, layer by layer.
struct CausalLM::CacheWriter {
  KvCache& cache;
  const at::Tensor& slots;  // [N]
  at::Tensor cos, sin;      // [N,1,attention_head_dim/2], by position

  void write(size_t layer, const at::Tensor& qkv, const kernels::AttentionOptions& attention) {
    const int64_t dim = attention.head_dim, half = dim / 2, kv = attention.kv_heads;
    const int64_t key_start = attention.heads * dim;
    const auto heads = [&](int64_t start) {
      return qkv.narrow(1, start, kv * dim).view({qkv.size(0), kv, dim});
    };
    const at::Tensor key = heads(key_start);
    const at::Tensor first = key.narrow(2, 0, half), second = key.narrow(2, half, half);
    const at::Tensor rotated =
        at::cat({first.mul(cos).sub_(second.mul(sin)), second.mul(cos).add_(first.mul(sin))}, 2);
    const auto scatter = [&](at::Tensor& blocks, const at::Tensor& values) {
      blocks.view({cache.blocks * cache.block_size, kv, dim})
          .index_copy_(0, slots, values.to(blocks.scalar_type()));
    };
    scatter(cache.keys[layer], rotated);
    scatter(cache.values[layer], heads(key_start + kv * dim));
  }
};

at::Tensor CausalLM::embed(const at::Tensor& tokens, const at::Tensor& positions) const {
  const at::ScalarType type = stream_type(parameters_.data().scalar_type());
  const at::Tensor x = at::embedding(parameters_.leaf(embedding_), tokens).to(type);
  if (positions_ < 0) return x;
  return x.add(at::embedding(parameters_.leaf(positions_), positions));
}

at::Tensor CausalLM::forward(const at::Tensor& tokens, const at::Tensor& cu_seqlens,
                             const at::Tensor& positions, const at::Tensor& rows, double dropout,
                             CacheWriter* writer) {
  const auto add = [&](const at::Tensor& residual, const at::Tensor& x, const Projection& output) {
    if (dropout == 0.0) return output.added(residual, x);
    const auto seed = static_cast<int64_t>(mix(dropout_seed_, dropout_calls_++) >> 1);
    const at::Tensor y = output(x).to(residual.scalar_type());
    return residual.add(kernels::dropout(y, dropout, seed));
  };
  const BlocksInTurn turn(parameters_.keeper(), config_.layers);
  at::Tensor x = embed(tokens, positions);
  const bool whole_blocks = writer == nullptr && dropout == 0.0 && x.is_cpu() &&
                            parameters_.data().scalar_type() != at::kBFloat16;
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    const TransformerBlock& block = blocks_[layer];
    turn.enter(static_cast<int64_t>(layer), x);
    const bool selects = rows.defined() && layer + 1 == blocks_.size();
    if (whole_blocks && block.is_llama()) {
      x = kernels::transformer_block(x, block.weights(), cu_seqlens, cos_, sin_, block.attention,
                                     config_.norm_eps,
                                     bfloat16_products_ && x.scalar_type() == at::kFloat,
                                     selects ? std::optional(rows) : std::nullopt);
      continue;
    }
    const at::Tensor qkv = block.attention_input(x);
    if (writer != nullptr) writer->write(layer, qkv, block.attention);
    at::Tensor mixed = kernels::attention(qkv, cu_seqlens, cos_, sin_, block.attention);
    if (selects) {
      x = x.index_select(0, rows);
      mixed = mixed.index_select(0, rows);
    }
    x = add(x, block.attended(mixed), block.attention_output);
    x = add(x, block.mlp_input(x), block.down);
  }
  turn.enter(config_.layers, x);
  return (*final_norm_)(x, config_.norm_eps);
}

at::Tensor CausalLM::hidden(const at::Tensor& tokens, const at::Tensor& cu_seqlens,
                            const at::Tensor& rows) {
  reserve_positions(tokens.size(0));  // no position of a packed batch lies beyond its tokens
  at::Tensor positions;
  if (positions_ >= 0) {
    positions = packed_positions(tokens, cu_seqlens);
    check_positions(positions, config_.max_positions);
  }
  const bool all = !rows.defined() || rows.size(0) == tokens.size(0);
  const at::Tensor result =
      forward(tokens, cu_seqlens, positions, all ? at::Tensor() : rows, dropout_, nullptr);
  return rounds_head() ? result.to(at::kBFloat16) : result;
}

at::Tensor CausalLM::prefill(const at::Tensor& tokens, const at::Tensor& cu_seqlens, KvCache& cache,
                             const at::Tensor& slots) {
  const at::NoGradGuard no_grad;
  reserve_positions(tokens.size(0));
  const at::Tensor positions = packed_positions(tokens, cu_seqlens);
  if (positions_ >= 0) check_positions(positions, config_.max_positions);
  CacheWriter writer{cache, slots, cos_.index_select(0, positions).unsqueeze(1),
                     sin_.index_select(0, positions).unsqueeze(1)};
  return forward(tokens, cu_seqlens, positions, {}, 0.0, &writer);
}

at::Tensor CausalLM::decode(const at::Tensor& tokens, const at::Tensor& positions, KvCache& cache,
                            const at::Tensor& block_table) {
  const at::NoGradGuard no_grad;
  reserve_positions(block_table.size(1) * cache.block_size);
  const BlocksInTurn turn(parameters_.keeper(), config_.layers);
  at::Tensor x = embed(tokens, positions);
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    const TransformerBlock& block = blocks_[layer];
    turn.enter(static_cast<int64_t>(layer), x);
    const at::Tensor mixed =
        kernels::decode_attention(block.attention_input(x), cache.keys[layer], cache.values[layer],
                                  block_table, positions, cos_, sin_, block.attention);
    block.attention_output.add_to(x, block.attended(mixed));
    block.down.add_to(x, block.mlp_input(x));
  }
  turn.enter(config_.layers, x);
  return (*final_norm_)(x, config_.norm_eps);
}

at::ScalarType CausalLM::cache_type() const {
  if (casts_) return at::kBFloat16;
  const at::ScalarType type = parameters_.data().scalar_type();
  return type == at::kHalf ? at::kFloat : type;
}

KvCache CausalLM::make_cache(int64_t blocks, int64_t block_size) const {
  KvCache cache;
  cache.blocks = blocks;
  cache.block_size = block_size;
  const std::vector<int64_t> shape = {blocks, block_size, config_.kv_heads,
                                      config_.attention_head_dim()};
  const auto options = parameters_.data().options().dtype(cache_type());
  for (int64_t layer = 0; layer < config_.layers; ++layer) {
    cache.keys.push_back(at::empty(shape, options));
    cache.values.push_back(at::empty(shape, options));
  }
  return cache;
}

void CausalLM::set_dropout(double p, uint64_t seed, uint64_t calls) {
  dropout_ = p;
  dropout_seed_ = seed;
  dropout_calls_ = calls;
}

std::unique_ptr<CausalLM> CausalLM::copy(HeadKind head, uint64_t seed) const {
  const at::NoGradGuard no_grad;
  parameters_.require_whole("copy of a model");
  const at::Tensor& data = parameters_.data();
  auto result = std::make_unique<CausalLM>(config_, head, data.scalar_type(), data.device());
  if (head == head_) {
    result->parameters_.copy_from(parameters_);
    return result;
  }
  if (head == HeadKind::kLanguageModel && !config_.tie_embeddings) {
    throw data::InputError("model", "copy as a language model", "a model with an LM head",
                           "one with a scalar head only");
  }
  const Family& family = find_family(config_.family, "model");
  for (const ParameterSlice& slice : result->parameters_.slices()) {
    at::Tensor values = result->parameters_.slice(slice.name);
    if (slice.name == family.names.scalar_head) {
      result->initialize_scalar_head(seed);
    } else {
      values.copy_(parameters_.slice(slice.name));
    }
  }
  return result;
}

}  // namespace hone::engine
