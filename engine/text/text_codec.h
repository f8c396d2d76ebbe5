#pragma once

// How texts become token sequences, in one place: the same for training, scoring and generation.

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "data/records.h"
#include "engine/chat/chat_format.h"
#include "engine/models/model_config.h"
#include "engine/packing/packed_batch.h"
#include "engine/tokenizer/tokenizer.h"

namespace hone::engine {

class TextCodec {
 public:
  /// A sequence is what the tokenizer puts before a text (bos, or nothing), prompt, answer, and the
  /// config's eos. A conversation of the chat format says itself how it begins, and its answer ends
  /// with that format's own token. max_tokens bounds a whole sequence: a prompt loses its
  /// beginning, an answer its end (and then has no eos).
  TextCodec(Tokenizer tokenizer, const ModelConfig& config, int64_t max_tokens,
            ChatFormat chat = ChatFormat::named("plain"));
  /// With the tokenizer and the chat format of a model's directory. A template that is not
  /// recognised is an error only when messages need it.
  static TextCodec load(const std::filesystem::path& directory, const ModelConfig& config,
                        int64_t max_tokens);

  /// The text of a prompt: messages in the chat format, ending where the assistant begins to speak
  /// (of a model without a template: "role: content" lines, then "assistant:").
  std::string prompt_text(const std::string& prompt, bool is_messages) const;
  /// An item's prompt and answer; an item without prompt gets its first `prompt_words` words as
  /// one.
  std::pair<std::string, std::string> prompt_and_answer(const data::Item& item,
                                                        int64_t prompt_words) const;

  /// What stands before the tokens of a text: what the tokenizer puts there, as transformers has
  /// it; before an empty text at least the config's bos, from which transformers begins to
  /// generate.
  TokenIds begin(const std::string& text) const;
  /// begin() and the text's tokens, at most max_tokens - reserve.
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
  ChatFormat chat_;
  std::string chat_error_;  // why the template could not be read
  int64_t bos_id_, eos_id_, max_tokens_;
};

/// What TextCodec::prompt_and_answer gives, with `chat` alone: for texts that are there before any
/// tokenizer.
std::pair<std::string, std::string> prompt_and_answer(const data::Item& item, int64_t prompt_words,
                                                      const ChatFormat& chat);

/// The first `words` words of a text, and the rest with its leading space.
std::pair<std::string, std::string> split_opening(const std::string& text, int64_t words);

}  // namespace hone::engine
