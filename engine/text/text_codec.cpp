#include "engine/text/text_codec.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/error.h"

namespace hone::engine {

TextCodec::TextCodec(Tokenizer tokenizer, const ModelConfig& config, int64_t max_tokens)
    : tokenizer_(std::move(tokenizer)),
      bos_id_(config.bos_id),
      eos_id_(config.eos_id),
      max_tokens_(std::min(max_tokens, config.max_positions)) {
  if (tokenizer_.vocab_size() > config.vocab_size) {
    throw data::InputError("tokenizer.json", "vocabulary",
                           "at most the model's " + std::to_string(config.vocab_size) + " ids",
                           std::to_string(tokenizer_.vocab_size()));
  }
}

TokenIds TextCodec::prompt(const std::string& prompt, int64_t reserve) const {
  TokenIds ids = tokenizer_.encode(prompt, false);
  const int64_t bos = bos_id_ >= 0 ? 1 : 0;
  const auto room = static_cast<size_t>(std::max<int64_t>(max_tokens_ - reserve - bos, 1));
  if (ids.size() > room) ids.erase(ids.begin(), ids.end() - static_cast<std::ptrdiff_t>(room));
  if (bos) ids.insert(ids.begin(), static_cast<int32_t>(bos_id_));
  return ids;
}

TrainingText TextCodec::text(const std::string& prompt, const std::string& answer) const {
  // Encoded together where that keeps the prompt's own tokens, so that a text reads the same
  // whether people wrote it in one piece or a policy continued it.
  const TokenIds head = tokenizer_.encode(prompt, false);
  TokenIds whole = tokenizer_.encode(prompt + answer, false);
  if (whole.size() < head.size() || !std::equal(head.begin(), head.end(), whole.begin())) {
    const TokenIds tail = tokenizer_.encode(answer, false);
    whole = head;
    whole.insert(whole.end(), tail.begin(), tail.end());
  }
  size_t prompt_tokens = head.size();
  const size_t bos = bos_id_ >= 0 ? 1 : 0;
  const auto limit = static_cast<size_t>(max_tokens_);
  // Half of the room at least stays for the answer when the prompt alone would fill it.
  const size_t room = limit - bos - 1;
  const size_t answer_room = std::min(whole.size() - prompt_tokens, std::max<size_t>(room / 2, 1));
  if (prompt_tokens + answer_room > room) {
    const size_t cut = prompt_tokens + answer_room - room;
    whole.erase(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(cut));
    prompt_tokens -= cut;
  }
  TrainingText result;
  if (bos) result.tokens.push_back(static_cast<int32_t>(bos_id_));
  result.prompt_tokens = static_cast<int64_t>(prompt_tokens + bos);
  const bool fits = whole.size() <= room;
  if (!fits) whole.resize(room);
  result.tokens.insert(result.tokens.end(), whole.begin(), whole.end());
  if (fits && eos_id_ >= 0) result.tokens.push_back(static_cast<int32_t>(eos_id_));
  return result;
}

std::string TextCodec::decode(const TokenIds& ids) const {
  std::string text = tokenizer_.decode(ids, true);
  // Tokenizers that mark word starts give a first space that no one wrote.
  if (!text.empty() && text.front() == ' ') text.erase(0, 1);
  return text;
}

std::string prompt_text(const std::string& prompt, bool is_messages) {
  if (!is_messages) return prompt;
  std::string text;
  for (const auto& message : nlohmann::json::parse(prompt)) {
    text += message.at("role").get<std::string>() + ": " +
            message.at("content").get<std::string>() + "\n";
  }
  return text + "assistant:";
}

std::pair<std::string, std::string> split_opening(const std::string& text, int64_t words) {
  size_t at = 0;
  for (int64_t w = 0; w < words; ++w) {
    at = text.find_first_not_of(' ', at);
    if (at == std::string::npos) return {text, ""};
    at = text.find(' ', at);
    if (at == std::string::npos) return {text, ""};
  }
  return {text.substr(0, at), text.substr(at)};
}

std::pair<std::string, std::string> prompt_and_answer(const data::Item& item,
                                                      int64_t prompt_words) {
  if (item.prompt.empty()) return split_opening(item.text, prompt_words);
  return {prompt_text(item.prompt, item.prompt_is_messages), item.text};
}

}  // namespace hone::engine
