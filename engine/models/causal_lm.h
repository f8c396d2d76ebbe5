#pragma once

// A decoder-only transformer over packed tokens: policy, reference, reward model and critic alike.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "engine/models/model_config.h"
#include "engine/models/parameter_arena.h"
#include "reward/backbone.h"

namespace hone::engine {

class CastOperand;
struct Norm;
struct TransformerBlock;

enum class HeadKind { kLanguageModel, kScalar };

/// Keys and values of live rows in blocks of `block_size` tokens, allocated once.
struct KvCache {
  /// Per layer [blocks, block_size, kv_heads, ModelConfig::attention_head_dim()].
  std::vector<at::Tensor> keys, values;
  int64_t block_size = 16, blocks = 0;

  void copy_block(int64_t from, int64_t to);
};

class CausalLM : public reward::Backbone {
 public:
  CausalLM(ModelConfig config, HeadKind head, at::ScalarType dtype = at::kFloat,
           at::Device device = at::kCPU);
  ~CausalLM() override;

  /// N(0, initializer_range); residual output projections scaled by 1/sqrt(2*layers); scalar head
  /// N(0, 1/sqrt(H+1)) (ALGORITHMS 14). Depends on the seed only.
  void initialize(uint64_t seed);
  /// The scalar head alone, as initialize() would fill it.
  void initialize_scalar_head(uint64_t seed);

  using Backbone::hidden;
  at::Tensor hidden(const at::Tensor& tokens, const at::Tensor& cu_seqlens,
                    const at::Tensor& rows) override;
  /// [V,H] (the embedding when tied), in the type of hidden(); of decode() and prefill().
  at::Tensor lm_head() const;
  at::Tensor decoding_head() const;
  at::Tensor scalar_head() const override;  // [1,H]; kScalar only
  int64_t hidden_size() const override { return config_.hidden_size; }
  at::Tensor embedding() const { return parameters_.leaf(embedding_); }  // [V,H]
  at::Tensor position_embedding() const;  // [P,H], or undefined: rotary
  const Norm& final_norm() const { return *final_norm_; }
  const std::vector<TransformerBlock>& blocks() const { return blocks_; }

  /// One token for each of R rows: tokens [R], positions [R] int64, block_table [R, max_blocks]
  /// int32. Writes the cache. -> hidden [R,H]. No gradient.
  at::Tensor decode(const at::Tensor& tokens, const at::Tensor& positions, KvCache& cache,
                    const at::Tensor& block_table);
  /// hidden() that also writes the cache: token i's rotated key and value go to cache slot
  /// slots[i] = block * block_size + offset. slots [N] int64. No gradient, no dropout.
  at::Tensor prefill(const at::Tensor& tokens, const at::Tensor& cu_seqlens, KvCache& cache,
                     const at::Tensor& slots);
  KvCache make_cache(int64_t blocks, int64_t block_size) const;
  at::ScalarType cache_type() const;  // of its keys and values

  /// Residual dropout with probability p while p > 0; the masks depend on (seed, call count), and
  /// `calls` is the count to go on from (resume).
  void set_dropout(double p, uint64_t seed, uint64_t calls = 0);
  uint64_t dropout_calls() const { return dropout_calls_; }

  /// Mixed precision over float32 parameters: a language model's hidden() and lm_head() are
  /// bfloat16. On the CPU, in blocks like Llama's: products of hidden() with operands rounded to
  /// bfloat16, everything else, and decoding, as before. On a GPU: activations of a block and keys
  /// and values are bfloat16 too, the residual stream stays float32.
  void set_bfloat16_products(bool on);
  /// Weights in the type of products once for many passes without gradient. Parameters must not
  /// change before release_casts().
  void hold_casts();
  void release_casts();

  /// Same weights, own arena. A scalar copy of a language model gets a fresh head from `seed`.
  std::unique_ptr<CausalLM> copy(HeadKind head, uint64_t seed = 0) const;

  /// ParameterKeeper::meet, where there is a keeper.
  void meet() const {
    if (parameters_.keeper()) parameters_.keeper()->meet();
  }

  const ModelConfig& config() const { return config_; }
  HeadKind head() const { return head_; }
  ParameterArena& parameters() { return parameters_; }
  const ParameterArena& parameters() const { return parameters_; }

 private:
  struct CacheWriter;
  at::Tensor forward(const at::Tensor& tokens, const at::Tensor& cu_seqlens,
                     const at::Tensor& positions, const at::Tensor& rows, double dropout,
                     CacheWriter* writer);
  /// Rows of the embeddings of tokens [N] and, in a family that learns them, positions [N].
  at::Tensor embed(const at::Tensor& tokens, const at::Tensor& positions) const;
  at::Tensor head_leaf() const {
    return parameters_.leaf(config_.tie_embeddings ? embedding_ : lm_head_);
  }
  /// A score is a number of its own: a scalar head reads float32.
  bool casts_head() const { return casts_ && head_ == HeadKind::kLanguageModel; }
  bool rounds_head() const {
    return bfloat16_products_ && head_ == HeadKind::kLanguageModel &&
           parameters_.data().scalar_type() == at::kFloat;
  }
  /// Makes cos_ and sin_ cover at least `positions`.
  void reserve_positions(int64_t positions);

  ModelConfig config_;
  HeadKind head_;
  ParameterArena parameters_;
  std::vector<TransformerBlock> blocks_;
  std::unique_ptr<Norm> final_norm_;
  int64_t embedding_ = -1, positions_ = -1, lm_head_ = -1, scalar_head_ = -1;  // leaf indices
  at::Tensor cos_, sin_;  // [positions seen so far, rounded up; attention_head_dim/2]
  bool bfloat16_products_ = false;
  bool casts_ = false;  // on a GPU: operands are cast
  std::unique_ptr<CastOperand> head_cast_;
  double dropout_ = 0.0;
  uint64_t dropout_seed_ = 0, dropout_calls_ = 0;
};

/// Reads config.json + model.safetensors (or the sharded index). InputError names file and tensor.
std::unique_ptr<CausalLM> load_model(const std::filesystem::path& directory, HeadKind head,
                                     at::ScalarType dtype = at::kFloat,
                                     at::Device device = at::kCPU);
/// Writes config.json and model.safetensors atomically; transformers loads the directory.
void save_model(const CausalLM& model, const std::filesystem::path& directory);

}  // namespace hone::engine
