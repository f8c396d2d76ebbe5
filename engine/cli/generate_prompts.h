#pragma once

// What `hone generate` starts from: prompts as tokens, and the tokens that end a text.

#include <string>
#include <vector>

#include "engine/cli/sequence_lines.h"
#include "engine/models/model_config.h"

namespace hone::engine {

struct Prompts {
  std::vector<TokenIds> tokens;
  std::vector<std::string> texts;  // as given; empty where token ids were
};

/// One text. InputError when it is not UTF-8 or leaves no room in the context.
Prompts read_prompt(const std::string& text, const ModelConfig& config, LazyCodec& codec);

/// JSONL of {"prompt": "..."} or {"tokens": [...]}; "-" is standard input. InputError names file
/// and line.
Prompts read_prompts(const std::string& path, const ModelConfig& config, LazyCodec& codec);

/// Ids that end a text: eos_token_id of generation_config.json where the directory has it, as
/// transformers takes them, else of config.json.
std::vector<int64_t> model_stop_ids(const std::string& directory, const ModelConfig& config);

}  // namespace hone::engine
