#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "engine/tokenizer/tokenizer.h"

namespace hone::engine {

/// What training found: tokens by id, merges by rank, in the characters of byte_level.h.
struct TrainedBpe {
  std::vector<std::string> tokens;
  std::vector<std::pair<std::string, std::string>> merges;
};

/// The "pre_tokenizer" of a trained tokenizer.
nlohmann::json byte_level_description(bool add_prefix_space);

/// The text of its tokenizer.json. The special token "<bos>", if there is one, begins every text
/// that is encoded with special tokens.
std::string tokenizer_json(const TrainedBpe& trained, const BpeTrainerOptions& options);

}  // namespace hone::engine
