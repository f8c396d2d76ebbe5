#pragma once

// How texts become token sequences, in one place: the same for training, scoring and generation.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/records.h"
#include "engine/models/model_config.h"
#include "engine/packing/packed_batch.h"
#include "engine/tokenizer/tokenizer.h"

namespace hone::engine {

class TextCodec {
 public:
  /// Special ids come from the model's config; a sequence is bos (if any), prompt, answer, eos.
  /// max_tokens bounds a whole sequence: a prompt loses its beginning, an answer its end (and then
  /// has no eos).
  TextCodec(Tokenizer tokenizer, const ModelConfig& config, int64_t max_tokens);

  /// Prompt tokens with bos, at most max_tokens - reserve.
  TokenIds prompt(const std::string& prompt, int64_t reserve) const;
  /// A whole text, and how many of its tokens are prompt (bos included).
  TrainingText text(const std::string& prompt, const std::string& answer) const;
  std::string decode(const TokenIds& ids) const;

  int64_t bos_id() const { return bos_id_; }
  int64_t eos_id() const { return eos_id_; }
  int64_t max_tokens() const { return max_tokens_; }
  const Tokenizer& tokenizer() const { return tokenizer_; }

 private:
  Tokenizer tokenizer_;
  int64_t bos_id_, eos_id_, max_tokens_;
};

/// What a policy reads as prompt: messages become "role: content" lines ending in "assistant:".
std::string prompt_text(const std::string& prompt, bool is_messages);

/// The first `words` words of a text, and the rest with its leading space.
std::pair<std::string, std::string> split_opening(const std::string& text, int64_t words);

/// An item's prompt and answer; an item without prompt gets its first `prompt_words` words as one.
std::pair<std::string, std::string> prompt_and_answer(const data::Item& item, int64_t prompt_words);

}  // namespace hone::engine
