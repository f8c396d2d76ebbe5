#include "engine/chat/chat_format.h"

#include <algorithm>
#include <ctime>

#include "data/error.h"

namespace hone::engine {
namespace {

using data::InputError;

// Python's str.strip(), which Jinja's trim is, of ASCII and the usual Unicode spaces.
std::string trimmed(const std::string& text) {
  constexpr std::string_view kSpace = " \t\n\v\f\r\x1C\x1D\x1E\x1F";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::string_view without_leading_newlines(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of('\n'), text.size()));
}

std::string_view without_trailing_newlines(std::string_view text) {
  const size_t last = text.find_last_not_of('\n');
  return last == text.npos ? std::string_view() : text.substr(0, last + 1);
}

std::string date_of_today() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  char text[32] = "";
  if (::localtime_r(&now, &local) != nullptr) std::strftime(text, sizeof text, "%d %b %Y", &local);
  return text;
}

void append_answer(ChatText& result, std::string_view answer, std::string_view end) {
  const size_t begin = result.text.size();
  result.text += answer;
  result.text += end;
  result.assistant.push_back({begin, result.text.size()});
}

}  // namespace

std::vector<ChatMessage> parse_chat_messages(const JsonField& field) {
  std::vector<ChatMessage> messages;
  const size_t count = field.list_size();
  if (count == 0) field.fail("at least one message");
  for (size_t i = 0; i < count; ++i) {
    const JsonField message = field.at(i);
    const std::string& role = message.at("role").text();
    if (role != "system" && role != "user" && role != "assistant") {
      message.at("role").fail("system, user or assistant");
    }
    messages.push_back({role, message.at("content").text()});
  }
  return messages;
}

std::string ChatFormat::header(const std::string& role) const {
  if (name_ == "chatml") return "<|im_start|>" + role + "\n";
  return "<|start_header_id|>" + role + "<|end_header_id|>\n\n";
}

void ChatFormat::render_chatml(const std::vector<ChatMessage>& messages, ChatText& result) const {
  if (messages.front().role != "system" && !default_system_.empty()) {
    result.text += header("system") + default_system_ + "<|im_end|>" + turn_end_;
  }
  for (const ChatMessage& message : messages) {
    const std::string content = is_trimmed_ ? trimmed(message.content) : message.content;
    result.text += header(message.role);
    if (message.role == "assistant") {
      append_answer(result, content, "<|im_end|>");
      result.text += turn_end_;
    } else {
      result.text += content + "<|im_end|>" + turn_end_;
    }
  }
}

void ChatFormat::render_opened_by_user(const std::vector<ChatMessage>& messages,
                                       ChatText& result) const {
  const bool has_system = messages.front().role == "system";
  const std::string& system = has_system ? messages.front().content : default_system_;
  if (has_system || !system.empty()) result.text += header("system") + system + "<|im_end|>\n";
  for (const ChatMessage& message : messages) {
    if (message.role == "user") {
      result.text += header("user") + message.content + "<|im_end|>\n" + header("assistant");
    } else if (message.role == "assistant") {
      append_answer(result, message.content, "<|im_end|>");
      result.text += "\n";
    }
  }
}

// Qwen3: thoughts before </think> are left out of the turns before the last question; the last turn
// has them, if only empty ones.
void ChatFormat::render_thinking(const std::vector<ChatMessage>& messages, ChatText& result) const {
  size_t last_query = messages.size() - 1;
  for (size_t i = messages.size(); i-- > 0;) {
    const std::string& content = messages[i].content;
    const bool is_tool =
        content.starts_with("<tool_response>") && content.ends_with("</tool_response>");
    if (messages[i].role != "user" || is_tool) continue;
    last_query = i;
    break;
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    result.text += header(message.role);
    if (message.role != "assistant") {
      result.text += message.content + "<|im_end|>\n";
      continue;
    }
    constexpr std::string_view kOpen = "<think>", kClose = "</think>";
    std::string_view content = message.content, thoughts;
    if (const size_t close = content.find(kClose); close != content.npos) {
      thoughts = without_trailing_newlines(content.substr(0, close));
      if (const size_t open = thoughts.rfind(kOpen); open != thoughts.npos) {
        thoughts.remove_prefix(open + kOpen.size());
      }
      thoughts = without_leading_newlines(thoughts);
      content = without_leading_newlines(content.substr(content.rfind(kClose) + kClose.size()));
    }
    const bool is_shown = i > last_query && (i + 1 == messages.size() || !thoughts.empty());
    std::string answer(content);
    if (is_shown) {
      answer = "<think>\n" + std::string(without_trailing_newlines(thoughts)) + "\n</think>\n\n" +
               std::string(without_leading_newlines(content));
    }
    append_answer(result, answer, "<|im_end|>");
    result.text += "\n";
  }
}

void ChatFormat::render_llama3(const std::vector<ChatMessage>& messages, ChatText& result) const {
  size_t first = 0;
  if (is_dated_) {
    std::string system;
    if (messages.front().role == "system") system = trimmed(messages[first++].content);
    result.text += header("system") + knowledge_date_ +
                   "Today Date: " + (today_.empty() ? date_of_today() : today_) + "\n\n" + system +
                   "<|eot_id|>";
  }
  for (size_t i = first; i < messages.size(); ++i) {
    const std::string content = is_trimmed_ ? trimmed(messages[i].content) : messages[i].content;
    result.text += header(messages[i].role);
    if (messages[i].role == "assistant") {
      append_answer(result, content, "<|eot_id|>");
    } else {
      result.text += content + "<|eot_id|>";
    }
  }
}

void ChatFormat::render_mistral(const std::vector<ChatMessage>& messages, ChatText& result) const {
  const bool has_system = messages.front().role == "system";
  if (has_system && system_place_ == SystemPlace::kNone) {
    throw InputError("messages", "[0].role", "user: this chat format has no system message",
                     "system");
  }
  const size_t first = has_system ? 1 : 0;
  std::string last_user;
  for (size_t i = first; i < messages.size(); ++i) {
    const std::string expected = (i - first) % 2 == 0 ? "user" : "assistant";
    if (messages[i].role != expected) {
      throw InputError("messages", "[" + std::to_string(i) + "].role",
                       expected + ": user and assistant take turns", messages[i].role);
    }
    if (messages[i].role == "user") last_user = messages[i].content;
  }
  for (size_t i = first; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    if (message.role == "user") {
      const bool is_place = system_place_ == SystemPlace::kFirstUser ? i == first
                            : system_place_ == SystemPlace::kLastMessage
                                ? i + 1 == messages.size()
                                : message.content == last_user;
      result.text += open_;
      if (has_system && is_place) result.text += messages.front().content + "\n\n";
      result.text += message.content + close_;
    } else {
      const std::string content = is_trimmed_ ? trimmed(message.content) : message.content;
      result.text += answer_;
      append_answer(result, content, eos_);
      result.text += answer_end_;
    }
  }
}

void ChatFormat::render_plain(const std::vector<ChatMessage>& messages, ChatText& result) const {
  for (const ChatMessage& message : messages) {
    result.text += message.role + ": ";
    if (message.role == "assistant") {
      append_answer(result, message.content, "\n");
    } else {
      result.text += message.content + "\n";
    }
  }
}

bool ChatFormat::begins(const std::string& text) const {
  std::string_view rest = text;
  if (has_bos_ && !bos_.empty() && rest.starts_with(bos_)) rest.remove_prefix(bos_.size());
  if (name_ == "chatml") return rest.starts_with("<|im_start|>");
  if (name_ == "llama3") return rest.starts_with("<|start_header_id|>");
  return name_ == "mistral" && rest.starts_with(open_);
}

std::string ChatFormat::answer_end() const {
  return name_ == "chatml"    ? "<|im_end|>"
         : name_ == "llama3"  ? "<|eot_id|>"
         : name_ == "mistral" ? eos_
                              : "";
}

ChatText ChatFormat::render(const std::vector<ChatMessage>& messages,
                            bool generation_prompt) const {
  if (messages.empty()) throw InputError("messages", "list", "at least one message", "none");
  ChatText result;
  if (has_bos_) result.text = bos_;
  const bool prompted = generation_prompt_ == GenerationPrompt::kAlways ||
                        (generation_prompt && generation_prompt_ == GenerationPrompt::kOnRequest);
  if (name_ == "plain") {
    render_plain(messages, result);
    if (prompted) result.text += "assistant:";
  } else if (name_ == "mistral") {
    render_mistral(messages, result);
  } else {
    if (name_ == "llama3") {
      render_llama3(messages, result);
    } else if (is_opened_by_user_) {
      render_opened_by_user(messages, result);
    } else if (is_thinking_) {
      render_thinking(messages, result);
    } else {
      render_chatml(messages, result);
    }
    if (prompted) result.text += header("assistant");
  }
  return result;
}

}  // namespace hone::engine
