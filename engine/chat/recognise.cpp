// Which format a chat template is of, and in what it differs from its family's others.

#include <filesystem>
#include <regex>
#include <utility>

#include "data/atomic_file.h"
#include "data/error.h"
#include "engine/chat/chat_format.h"

namespace hone::engine {
namespace {

using data::InputError;

[[noreturn]] void refuse(const std::string& where, const std::string& got) {
  throw InputError(
      where, "chat_template",
      "one of the formats " + std::string(ChatFormat::kNames) + " (--chat-format names one)", got);
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// Jinja's escapes in a string: a template has "\n" both as an escape and as itself.
std::string with_newlines(const std::string& text) {
  return std::regex_replace(text, std::regex(R"(\\n)"), "\n");
}

std::string captured(const std::string& text, const char* pattern, size_t group = 1) {
  std::smatch match;
  return std::regex_search(text, match, std::regex(pattern)) ? match[group].str() : "";
}

bool matches(const std::string& text, const char* pattern) {
  return std::regex_search(text, std::regex(pattern));
}

// "<s>", or {"content": "<s>", ..}; the fallback where it is absent or null.
std::string token_text(const JsonField& config, const char* key) {
  if (!config.has(key)) return "";
  const JsonField token = config.at(key);
  return token.value().is_object() ? token.at("content").text() : token.text();
}

}  // namespace

ChatFormat ChatFormat::recognise_chatml(const std::string& text, const std::string& where) {
  ChatFormat format = named("chatml");
  const std::string plain = with_newlines(text);
  // Without tools, what a template does with them does not matter, but for their own turns.
  format.is_thinking_ = contains(text, "last_query_index") && contains(plain, "'\n<think>\n'");
  if (!format.is_thinking_ && contains(text, "<think>"))
    refuse(where, "chatml with other thoughts");
  if (contains(text, "<|vision_start|>") || contains(text, "image_pad")) {
    refuse(where, "chatml with images");
  }
  format.has_bos_ = contains(text, "bos_token");
  format.is_opened_by_user_ = contains(plain, "<|im_end|>\n<|im_start|>assistant\n");
  format.default_system_ = captured(plain, R"(<\|im_start\|>system\n([^'"{}<]+)<\|im_end\|>)");
  if (format.default_system_.empty()) {
    format.default_system_ =
        captured(text, R"rx(set\s+system_message\s*=\s*(['"])([^'"]+)\1)rx", 2);
  }
  format.is_trimmed_ =
      matches(text, R"rx(content(['"]\])?\)?\s*\|\s*trim|content(['"]\])?\.strip\(\))rx");
  const bool has_turn_end =
      matches(plain, R"rx(<\|im_end\|>(['"]\s*(\+|~)\s*['"])?\n|<\|im_end\|>['"]\s*\}\}\n)rx");
  if (!has_turn_end) format.turn_end_.clear();
  if (!contains(text, "add_generation_prompt")) {
    const bool always = contains(plain, "<|im_start|>assistant\n") && !format.is_opened_by_user_;
    format.generation_prompt_ = always ? GenerationPrompt::kAlways : GenerationPrompt::kNever;
  }
  return format;
}

ChatFormat ChatFormat::recognise_llama3(const std::string& text, const std::string& where) {
  ChatFormat format = named("llama3");
  if (!contains(text, "<|eot_id|>")) refuse(where, "llama3 without <|eot_id|>");
  format.has_bos_ = contains(text, "bos_token");
  format.is_trimmed_ = matches(text, R"rx(content['"]\]\s*\|\s*trim|content\s*\|\s*trim)rx");
  format.is_dated_ = contains(text, "Today Date: ");
  if (format.is_dated_) {
    format.knowledge_date_ = captured(text, R"((Cutting Knowledge Date: [^\\"'\n]+))");
    if (!format.knowledge_date_.empty()) format.knowledge_date_ += "\n";
    if (!contains(text, "strftime_now")) {
      format.today_ = captured(text, R"rx(date_string\s*=\s*["']([^"']+)["'])rx");
      if (format.today_.empty()) refuse(where, "llama3 with a date from elsewhere");
    }
  }
  if (!contains(text, "add_generation_prompt")) {
    // The header stands once as text for all roles; a second one is the prompt.
    format.generation_prompt_ = contains(text, "<|start_header_id|>assistant<|end_header_id|>")
                                    ? GenerationPrompt::kAlways
                                    : GenerationPrompt::kNever;
  }
  return format;
}

ChatFormat ChatFormat::recognise_mistral(const std::string& text, const std::string& where) {
  ChatFormat format = named("mistral");
  if (contains(text, "<<SYS>>") || contains(text, "[SYSTEM_PROMPT]")) {
    refuse(where, "[INST] with a system turn of its own");
  }
  const std::string content = R"rx((?:message\[['"]content['"]\]|message\.content|content))rx";
  const std::string open = R"rx((['"])( ?\[INST\] ?)\1\s*\+\s*)rx" + content;
  std::smatch match;
  if (!std::regex_search(text, match, std::regex(open))) refuse(where, "[INST] in another place");
  format.open_ = match[2].str();
  const std::string close = content + R"rx(\s*\+\s*(['"])( ?\[/INST\] ?)\1)rx";
  if (!std::regex_search(text, match, std::regex(close))) refuse(where, "[/INST] in another place");
  format.close_ = match[2].str();
  // The assistant's: {{ ' ' + message['content']|trim + eos_token + ' ' }}
  const std::string answer = R"rx(\{\{-?\s*(?:(['"])( ?)\1\s*\+\s*)?)rx" + content +
                             R"rx((\s*\|\s*trim|\.strip\(\))?\s*\+\s*eos_token)rx" +
                             R"rx((?:\s*\+\s*(['"])( ?)\4)?)rx";
  if (!std::regex_search(text, match, std::regex(answer))) refuse(where, "answers without an end");
  format.answer_ = match[2].str();
  format.is_trimmed_ = match[3].matched;
  format.answer_end_ = match[5].str();
  format.has_bos_ = contains(text, "bos_token");
  if (!contains(text, "system_message")) {
    format.system_place_ = SystemPlace::kNone;
  } else if (matches(text, R"rx(loop\.last and system_message)rx")) {
    format.system_place_ = SystemPlace::kLastMessage;
  } else if (matches(text, R"rx(user_messages\[-1\]\)? and system_message)rx")) {
    format.system_place_ = SystemPlace::kLastUser;
  } else if (matches(text, R"rx(loop\.(first|index0 == 0) and system_message)rx")) {
    format.system_place_ = SystemPlace::kFirstUser;
  } else {
    refuse(where, "a system message in another place");
  }
  return format;
}

ChatFormat ChatFormat::named(const std::string& name) {
  ChatFormat format;
  format.name_ = name;
  if (name == "mistral" || name == "llama3") {
    format.has_bos_ = format.is_trimmed_ = true;
  } else if (name != "chatml" && name != "plain") {
    throw InputError("--chat-format", "name", std::string(kNames), name);
  }
  return format;
}

ChatFormat ChatFormat::recognise(const std::string& text, const std::string& where) {
  constexpr size_t kLongest = 200'000;  // the matcher's stack is not endless
  if (text.size() > kLongest) refuse(where, std::to_string(text.size()) + " bytes");
  if (contains(text, "<|im_start|>") && contains(text, "<|im_end|>")) {
    return recognise_chatml(text, where);
  }
  if (contains(text, "<|start_header_id|>")) return recognise_llama3(text, where);
  if (contains(text, "[INST]") && contains(text, "[/INST]")) return recognise_mistral(text, where);
  refuse(where, shown_json(text));
}

ChatFormat ChatFormat::load(const std::filesystem::path& path, const std::string& name) {
  std::error_code ignored;
  const std::filesystem::path directory =
      std::filesystem::is_directory(path, ignored) ? path : path.parent_path();
  const std::filesystem::path config_file = directory / "tokenizer_config.json";
  const std::filesystem::path template_file = directory / "chat_template.jinja";
  nlohmann::json document = nlohmann::json::object();
  if (std::filesystem::exists(config_file, ignored)) {
    document = parse_json(data::read_file(config_file), config_file.string());
  }
  const JsonField config(document, config_file.string());
  std::string text, where = config_file.string();
  if (!name.empty()) {
    // Named: its template, if any, does not matter.
  } else if (std::filesystem::exists(template_file, ignored)) {
    text = data::read_file(template_file);
    where = template_file.string();
  } else if (config.has("chat_template")) {
    const JsonField field = config.at("chat_template");
    if (!field.value().is_array()) {
      text = field.text();
    } else {
      for (size_t i = 0; i < field.list_size(); ++i) {
        if (field.at(i).at("name").text() == "default") text = field.at(i).at("template").text();
      }
      if (text.empty()) field.fail("a template named default");
    }
  }
  ChatFormat format = !name.empty()  ? named(name)
                      : text.empty() ? named("plain")
                                     : recognise(text, where);
  for (const auto& [key, token] :
       {std::pair{"bos_token", &format.bos_}, {"eos_token", &format.eos_}}) {
    *token = token_text(config, key);
  }
  return format;
}

}  // namespace hone::engine
