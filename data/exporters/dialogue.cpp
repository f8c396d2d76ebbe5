#include "data/error.h"
#include "data/exporters/exporter.h"

namespace hone::data {

using nlohmann::ordered_json;

ordered_json stored_messages(std::string_view prompt, std::string_view record) {
  auto messages = ordered_json::parse(prompt, nullptr, false);
  if (!messages.is_array()) {
    throw CorruptError("record " + std::string(record), "prompt", "a JSON array of messages",
                       "other text");
  }
  return messages;
}

std::string dump_json(const ordered_json& value) {
  return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

ordered_json dialogue_of(const ItemRef& item) {
  ordered_json dialogue = ordered_json::array();
  if (item.prompt_is_messages()) {
    dialogue = stored_messages(item.prompt(), item.id());
  } else if (!item.prompt().empty()) {
    dialogue.push_back({{"role", "user"}, {"content", std::string(item.prompt())}});
  }
  dialogue.push_back({{"role", "assistant"}, {"content", std::string(item.text())}});
  return dialogue;
}

std::string transcript_of(const ItemRef& item) {
  constexpr const char *kHuman = "\n\nHuman:", *kAssistant = "\n\nAssistant:";
  if (!item.prompt_is_messages()) {
    std::string text(item.prompt());
    if (text.starts_with(kHuman) && text.ends_with(kAssistant)) return text.append(item.text());
    return std::string(kHuman) + " " + text + kAssistant + " " + std::string(item.text());
  }
  std::string text, system;
  for (const auto& message : dialogue_of(item)) {
    const auto part = [&](const char* name) {
      const bool has = message.is_object() && message.contains(name) && message[name].is_string();
      return has ? message[name].get<std::string>() : std::string();
    };
    const std::string role = part("role"), content = part("content");
    if (role == "system") {  // these transcripts have no such turn: it begins the next human one
      system += content + "\n\n";
    } else if (role == "assistant") {
      text += std::string(kAssistant) + " " + content;
    } else {
      text += std::string(kHuman) + " " + system + content;
      system.clear();
    }
  }
  return text;
}

}  // namespace hone::data
