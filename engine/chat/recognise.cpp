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
  std::string result;
  for (size_t at = 0; at < text.size(); ++at) {
    const bool is_escape = text.compare(at, 2, "\\n") == 0;
    result += is_escape ? '\n' : text[at];
    at += is_escape ? 1 : 0;
  }
  return result;
}

// Runs of white space at most this long: the standard library's matcher recurses for each character
// of a repetition, so its patterns repeat nothing else.
std::string squeezed(const std::string& text) {
  constexpr int kLongestRun = 16;
  std::string result;
  int run = 0;
  for (const char c : text) {
    run = c == ' ' || (c >= '\t' && c <= '\r') ? run + 1 : 0;
    if (run <= kLongestRun) result += c;
  }
  return result;
}

// What stands behind the first match of `pattern`, up to one of `stops`.
std::string behind(const std::string& text, const char* pattern, std::string_view stops) {
  std::smatch match;
  if (!std::regex_search(text, match, std::regex(pattern))) return "";
  const size_t begin = static_cast<size_t>(match.position(0) + match.length(0));
  return text.substr(begin, text.find_first_of(stops, begin) - begin);
}

// The system message that a template has between its marks.
std::string literal_system(const std::string& text) {
  constexpr std::string_view kOpen = "<|im_start|>system\n", kClose = "<|im_end|>";
  for (size_t at = 0; (at = text.find(kOpen, at)) != text.npos;) {
    at += kOpen.size();
    const size_t end = text.find_first_of("'\"{}<", at);
    if (end != text.npos && end > at && text.compare(end, kClose.size(), kClose) == 0) {
      return text.substr(at, end - at);
    }
  }
  return "";
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
  format.default_system_ = literal_system(plain);
  if (format.default_system_.empty()) {
    format.default_system_ = behind(text, R"rx(set\s+system_message\s*=\s*['"])rx", "'\"");
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
    format.knowledge_date_ = behind(text, "Cutting Knowledge Date: ", "\\\"'\n");
    if (!format.knowledge_date_.empty()) {
      format.knowledge_date_ = "Cutting Knowledge Date: " + format.knowledge_date_ + "\n";
    }
    if (!contains(text, "strftime_now")) {
      format.today_ = behind(text, R"rx(date_string\s*=\s*["'])rx", "\"'");
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

ChatFormat ChatFormat::recognise(const std::string& written, const std::string& where) {
  constexpr size_t kLongest = 200'000;
  if (written.size() > kLongest) refuse(where, std::to_string(written.size()) + " bytes");
  const std::string text = squeezed(written);
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
