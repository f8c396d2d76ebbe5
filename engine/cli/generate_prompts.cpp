#include "engine/cli/generate_prompts.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "data/error.h"
#include "data/utf8.h"
#include "engine/chat/chat_tokens.h"
#include "engine/io/json.h"

namespace hone::engine {
namespace {

void check_room(const TokenIds& tokens, const std::string& where, const ModelConfig& config) {
  const auto size = static_cast<int64_t>(tokens.size());
  if (size > 0 && size < config.max_positions) return;
  throw data::InputError(
      where, "prompt",
      "1 to " + std::to_string(config.max_positions - 1) + " tokens (the context less one)",
      size == 0 ? "none" : std::to_string(size));
}

}  // namespace

Prompts read_prompt(const std::string& text, const ModelConfig& config, LazyCodec& codec) {
  const size_t bad = data::find_invalid_utf8(text);
  if (bad != std::string::npos) {
    throw data::InputError("generate", "--prompt", "UTF-8",
                           "another byte at " + std::to_string(bad));
  }
  Prompts prompts{{codec.prompt(text)}, {text}};
  check_room(prompts.tokens[0], "generate", config);
  return prompts;
}

LazyChat::LazyChat(std::string directory, std::string name)
    : directory_(std::move(directory)), name_(std::move(name)) {
  if (!name_.empty()) ChatFormat::named(name_);
}

const ChatFormat& LazyChat::get() {
  if (!format_) format_ = ChatFormat::load(directory_, name_);
  return *format_;
}

int64_t LazyChat::answer_end(const Tokenizer& tokenizer) const {
  if (!format_ || format_->answer_end().empty()) return -1;
  return tokenizer.id_of(format_->answer_end());
}

Prompts read_prompts(const std::string& path, const ModelConfig& config, LazyCodec& codec,
                     LazyChat& chat) {
  constexpr const char* kKinds = R"(one of "prompt", "messages" and "tokens")";
  Prompts prompts;
  for_each_line(path, [&](const nlohmann::json& object, const std::string& where) {
    const JsonField line(object, where);
    const size_t kinds = object.count("prompt") + object.count("messages") + object.count("tokens");
    if (kinds != 1) {
      throw data::InputError(where, "line", kKinds, kinds == 0 ? "neither" : "more than one");
    }
    if (object.contains("tokens")) {
      prompts.tokens.push_back(token_list(object, "tokens", where, config.vocab_size));
      prompts.texts.emplace_back();
    } else if (object.contains("prompt")) {
      prompts.texts.push_back(line.at("prompt").text());
      prompts.tokens.push_back(codec.prompt(prompts.texts.back()));
    } else {
      const auto messages = parse_chat_messages(line.at("messages"));
      const bool answer_follows = true;
      prompts.texts.push_back(chat.get().render(messages, answer_follows).text);
      prompts.tokens.push_back(
          encode_chat(codec.get().tokenizer(), chat.get(), messages, answer_follows).tokens);
    }
    check_room(prompts.tokens.back(), where, config);
  });
  if (prompts.tokens.empty()) {
    throw data::InputError(path == "-" ? "standard input" : path, "prompts", "at least one line",
                           "none");
  }
  return prompts;
}

std::vector<int64_t> model_stop_ids(const std::string& directory, const ModelConfig& config) {
  const std::filesystem::path path = std::filesystem::path(directory) / "generation_config.json";
  std::ifstream file(path, std::ios::binary);
  if (!file) return config.eos_ids;
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const nlohmann::json object = parse_json(text, path.string());
  const JsonField root(object, path.string());
  root.require_object();
  if (!root.has("eos_token_id")) return config.eos_ids;
  const JsonField ids = root.at("eos_token_id");
  if (!ids.value().is_array()) return {ids.integer(0, config.vocab_size - 1)};
  std::vector<int64_t> stops;
  for (size_t i = 0; i < ids.list_size(); ++i) {
    stops.push_back(ids.at(i).integer(0, config.vocab_size - 1));
  }
  return stops;
}

}  // namespace hone::engine
