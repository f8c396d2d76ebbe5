#pragma once

// What `hone generate` starts from: prompts as tokens, and the tokens that end a text.

#include <optional>
#include <string>
#include <vector>

#include "engine/chat/chat_format.h"
#include "engine/cli/sequence_lines.h"
#include "engine/models/model_config.h"

namespace hone::engine {

struct Prompts {
  std::vector<TokenIds> tokens;
  std::vector<std::string> texts;  // as given, or of messages as the model reads them; else empty
};

/// A model directory's chat format, read when the first messages need it.
class LazyChat {
 public:
  /// `name` empty: the format of the model's template. InputError for an unknown name.
  LazyChat(std::string directory, std::string name);
  const ChatFormat& get();
  /// The token that ends an answer, where messages were read and the format has one; else -1.
  int64_t answer_end(const Tokenizer& tokenizer) const;
  bool opened() const { return format_.has_value(); }

 private:
  std::string directory_, name_;
  std::optional<ChatFormat> format_;
};

/// One text. InputError when it is not UTF-8 or leaves no room in the context.
Prompts read_prompt(const std::string& text, const ModelConfig& config, LazyCodec& codec);

/// JSONL of {"prompt": "..."}, {"messages": [...]} or {"tokens": [...]}; "-" is standard input.
/// InputError names file and line.
Prompts read_prompts(const std::string& path, const ModelConfig& config, LazyCodec& codec,
                     LazyChat& chat);

/// Ids that end a text: eos_token_id of generation_config.json where the directory has it, as
/// transformers takes them, else of config.json.
std::vector<int64_t> model_stop_ids(const std::string& directory, const ModelConfig& config);

}  // namespace hone::engine
