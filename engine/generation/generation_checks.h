#pragma once

#include <cstdint>
#include <vector>

#include "engine/generation/generation_options.h"
#include "engine/models/model_config.h"

namespace hone::engine {

/// Throws InputError that names the option or the prompt.
void check_generation(const GenerationOptions& options,
                      const std::vector<std::vector<int32_t>>& prompts, int64_t n,
                      const std::vector<int64_t>& prompt_ids, const ModelConfig& config);

}  // namespace hone::engine
