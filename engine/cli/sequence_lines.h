#pragma once

// What generate and logprobs read: JSONL whose lines are token ids or texts.

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "engine/text/text_codec.h"

namespace hone::engine {

/// Calls `line(object, "file:12")` for every line that is not blank; `path` "-" is standard input.
/// Throws InputError naming file and line for anything that is not a JSON object.
void for_each_line(const std::string& path,
                   const std::function<void(const nlohmann::json&, const std::string&)>& line);

/// The list of token ids under `key`, each in [0, vocab_size).
TokenIds token_list(const nlohmann::json& object, const std::string& key, const std::string& where,
                    int64_t vocab_size);

/// A model directory's tokenizer, opened when the first text needs it: token ids need none.
class LazyCodec {
 public:
  LazyCodec(std::string directory, const ModelConfig& config)
      : directory_(std::move(directory)), config_(config) {}
  const TextCodec& get();
  bool opened() const { return codec_.has_value(); }
  /// What the tokenizer puts before a text (TextCodec::begin) and its tokens, however many.
  TokenIds prompt(const std::string& text);
  /// prompt(p + response) where that begins with the prompt's own tokens, else those and the
  /// response's: as training reads a text (TextCodec::text), without an end token.
  TokenIds prompt_and_response(const std::string& text, const std::string& response);
  /// The text of `response` as it continues `prompt`, special tokens left out.
  std::string continuation(const TokenIds& prompt, const TokenIds& response);

 private:
  std::string directory_;
  const ModelConfig& config_;
  std::optional<TextCodec> codec_;
};

}  // namespace hone::engine
