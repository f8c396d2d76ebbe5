#pragma once

#include "engine/config/recipe.h"
#include "engine/models/model_config.h"

namespace hone::engine {

/// The model from scratch that a recipe describes, with the ids of the special tokens that
/// train_byte_level_bpe gives. Throws data::InputError for sizes that cannot be.
ModelConfig recipe_model(const ModelOptions& options, int64_t vocab_size);

}  // namespace hone::engine
