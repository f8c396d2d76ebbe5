#pragma once

// Prompts and answers in JSON lines: plain text or lists of messages.

#include <string>
#include <vector>

#include "data/importers/json_line.h"
#include "data/importers/line_error.h"

namespace hone::data {

/// A text that says something. Throws LineError when absent, no string, or empty.
inline std::string required_text(const JsonLine& line, const std::string& field) {
  std::string text = line.text(field);
  if (text.empty()) throw LineError(field, "some text", "an empty string");
  return text;
}

/// Sets prompt and prompt_is_messages of an Item or a Demonstration; both stay when the line has no
/// prompt. Throws LineError.
template <class Record>
void read_prompt(const JsonLine& line, Record& record) {
  const nlohmann::json* prompt = line.find("prompt");
  if (prompt == nullptr) return;
  if (prompt->is_string()) {
    record.prompt = prompt->get<std::string>();
  } else if (prompt->is_array()) {
    record.prompt = messages_text(parse_messages(*prompt, "prompt"));
    record.prompt_is_messages = true;
  } else {
    throw LineError("prompt", "a string or a list of messages", prompt->type_name());
  }
}

/// Splits a dialogue into the messages before the last and the last one's text, which must be the
/// assistant's. Throws LineError naming `field`.
template <class Record>
std::string take_last_message(std::vector<Message> messages, const std::string& field,
                              Record& record) {
  if (messages.back().role != "assistant") {
    throw LineError(field, "a last message by the assistant", "one by " + messages.back().role);
  }
  std::string text = std::move(messages.back().content);
  messages.pop_back();
  record.prompt = messages_text(messages);
  record.prompt_is_messages = true;
  return text;
}

}  // namespace hone::data
