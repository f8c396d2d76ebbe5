#include "engine/config/recipe_model.h"

namespace hone::engine {
namespace {

constexpr int64_t kPadId = 0, kBosId = 1, kEosId = 2;  // special tokens of BpeTrainerOptions

}  // namespace

ModelConfig recipe_model(const ModelOptions& options, int64_t vocab_size) {
  ModelConfig config;
  config.vocab_size = vocab_size;
  config.hidden_size = options.hidden_size;
  config.intermediate_size = options.intermediate_size;
  config.layers = options.layers;
  config.heads = options.heads;
  config.kv_heads = options.kv_heads;
  config.head_dim = options.hidden_size / options.heads;
  config.max_positions = options.max_positions;
  config.rope_theta = options.rope_theta;
  config.tie_embeddings = options.tie_embeddings;
  config.pad_id = kPadId;
  config.bos_id = kBosId;
  config.eos_id = kEosId;
  config.eos_ids = {kEosId};
  config.validate("recipe");
  return config;
}

}  // namespace hone::engine
