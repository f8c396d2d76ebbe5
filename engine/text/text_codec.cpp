#include "engine/text/text_codec.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/error.h"
#include "engine/io/json.h"

namespace hone::engine {

namespace {

std::string chat_prompt(const ChatFormat& chat, const std::string& prompt) {
  const nlohmann::json messages = parse_json(prompt, "messages of a prompt");
  return chat
      .render(parse_chat_messages(JsonField(messages, "messages of a prompt")),
              /*generation_prompt=*/true)
      .text;
}

}  // namespace

TextCodec::TextCodec(Tokenizer tokenizer, const ModelConfig& config, int64_t max_tokens,
                     ChatFormat chat)
    : tokenizer_(std::move(tokenizer)),
      chat_(std::move(chat)),
      bos_id_(config.bos_id),
      eos_id_(config.eos_id),
      max_tokens_(std::min(max_tokens, config.max_positions)) {
  if (tokenizer_.vocab_size() > config.vocab_size) {
    throw data::InputError("tokenizer.json", "vocabulary",
                           "at most the model's " + std::to_string(config.vocab_size) + " ids",
                           std::to_string(tokenizer_.vocab_size()));
  }
}

TextCodec TextCodec::load(const std::filesystem::path& directory, const ModelConfig& config,
                          int64_t max_tokens) {
  std::string chat_error;
  ChatFormat chat = ChatFormat::named("plain");
  try {
    chat = ChatFormat::load(directory, "");
  } catch (const data::InputError& error) {
    chat_error = error.what();
  }
  TextCodec codec(Tokenizer::load(directory), config, max_tokens, std::move(chat));
  codec.chat_error_ = std::move(chat_error);
  return codec;
}

std::string TextCodec::prompt_text(const std::string& prompt, bool is_messages) const {
  if (!is_messages) return prompt;
  if (!chat_error_.empty()) throw data::InputError(chat_error_);
  return chat_prompt(chat_, prompt);
}

std::pair<std::string, std::string> TextCodec::prompt_and_answer(const data::Item& item,
                                                                 int64_t prompt_words) const {
  if (item.prompt.empty()) return split_opening(item.text, prompt_words);
  return {prompt_text(item.prompt, item.prompt_is_messages), item.text};
}

std::pair<std::string, std::string> prompt_and_answer(const data::Item& item, int64_t prompt_words,
                                                      const ChatFormat& chat) {
  if (item.prompt.empty()) return split_opening(item.text, prompt_words);
  return {item.prompt_is_messages ? chat_prompt(chat, item.prompt) : item.prompt, item.text};
}

TokenIds TextCodec::begin(const std::string& text) const {
  if (chat_.begins(text)) return {};
  TokenIds ids = tokenizer_.prefix();
  if (ids.empty() && text.empty() && bos_id_ >= 0) ids = {static_cast<int32_t>(bos_id_)};
  return ids;
}

TokenIds TextCodec::prompt(const std::string& prompt, int64_t reserve) const {
  TokenIds result = begin(prompt);
  const TokenIds ids = tokenizer_.encode(prompt, false);
  const auto before = static_cast<int64_t>(result.size());
  const auto room = static_cast<size_t>(std::max<int64_t>(max_tokens_ - reserve - before, 1));
  const size_t cut = ids.size() > room ? ids.size() - room : 0;
  result.insert(result.end(), ids.begin() + static_cast<std::ptrdiff_t>(cut), ids.end());
  return result;
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
  TrainingText result;
  result.tokens = begin(prompt);
  if (result.tokens.empty() && prompt.empty()) result.tokens = begin(answer);
  const size_t before = result.tokens.size();
  const auto limit = static_cast<size_t>(max_tokens_);
  // Half of the room at least stays for the answer when the prompt alone would fill it.
  const size_t room = limit > before + 1 ? limit - before - 1 : 1;
  const size_t answer_room = std::min(whole.size() - prompt_tokens, std::max<size_t>(room / 2, 1));
  if (prompt_tokens + answer_room > room) {
    const size_t cut = prompt_tokens + answer_room - room;
    whole.erase(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(cut));
    prompt_tokens -= cut;
  }
  result.prompt_tokens = static_cast<int64_t>(prompt_tokens + before);
  const bool fits = whole.size() <= room;
  if (!fits) whole.resize(room);
  result.tokens.insert(result.tokens.end(), whole.begin(), whole.end());
  const int64_t chat_end = chat_.begins(prompt) ? tokenizer_.id_of(chat_.answer_end()) : -1;
  const int64_t end = chat_end >= 0 ? chat_end : eos_id_;
  if (fits && end >= 0) result.tokens.push_back(static_cast<int32_t>(end));
  return result;
}

std::string TextCodec::decode(const TokenIds& ids) const {
  std::string text = tokenizer_.decode(ids, true);
  // Tokenizers that mark word starts give a first space that no one wrote.
  if (!text.empty() && text.front() == ' ') text.erase(0, 1);
  return text;
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

}  // namespace hone::engine
