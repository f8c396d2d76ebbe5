#include "data/journal/scrub.h"

#include <algorithm>

namespace hone::data {
namespace {

constexpr std::string_view kBlock = "\xe2\x96\x88";  // U+2588

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool is_word(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 0x80 || (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z');
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Length of `name` at the start of `text`, spaces and hyphens counting alike; 0: it is not there.
std::size_t match(std::string_view text, std::string_view name) {
  if (text.size() < name.size()) return 0;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const char a = lower(text[i]), b = lower(name[i]);
    const bool gap = (a == ' ' || a == '-' || a == '_') && (b == ' ' || b == '-' || b == '_');
    if (a != b && !gap) return 0;
  }
  return name.size();
}

/// Extends a match over a version: "-4o", " 3.1", "-7b-instruct".
std::size_t with_version(std::string_view text, std::size_t end) {
  for (;;) {
    std::size_t at = end;
    if (at < text.size() && (text[at] == '-' || text[at] == ' ' || text[at] == '_')) ++at;
    const bool hyphen = at > end && text[end] != ' ';
    std::size_t stop = at;
    while (stop < text.size() &&
           (is_word(text[stop]) ||
            (text[stop] == '.' && stop + 1 < text.size() && is_digit(text[stop + 1])))) {
      ++stop;
    }
    // After a space only what begins with a digit; after a hyphen any word.
    if (stop == at || !(is_digit(text[at]) || hyphen)) return end;
    end = stop;
  }
}

struct Piece {
  std::size_t begin, end;
};

/// The end of the longest name at `at`, without its version; `at` when there is none.
std::size_t name_end(std::string_view text, std::size_t at, const std::vector<std::string>& names) {
  std::size_t longest = at;
  for (const std::string& name : names) {
    const std::size_t end = at + match(text.substr(at), name);
    if (end <= longest) continue;
    // "GPT4" carries its version without a gap.
    if (end == text.size() || !is_word(text[end]) || is_digit(text[end])) longest = end;
  }
  return longest;
}

/// Does somebody introduce themself right before `at`?
bool is_introduced(std::string_view text, std::size_t at) {
  for (const std::string_view words :
       {"i am ", "i'm ", "i\xe2\x80\x99m ", "as ", "name is ", "call me ", "called ", "named "}) {
    if (at >= words.size() && match(text.substr(at - words.size()), words) > 0) return true;
  }
  return false;
}

std::vector<Piece> find_names(std::string_view text, const std::vector<std::string>& further) {
  std::vector<Piece> pieces;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (!is_word(text[at]) || (at > 0 && is_word(text[at - 1]))) continue;
    std::size_t end =
        std::max(name_end(text, at, known_model_names()), name_end(text, at, further));
    std::size_t version = with_version(text, end);
    if (end == at) {
      end = name_end(text, at, ambiguous_model_names());
      version = with_version(text, end);
      const bool capital = text[at] >= 'A' && text[at] <= 'Z';
      const bool digits = std::any_of(text.begin() + end, text.begin() + version, is_digit);
      if (end == at || !capital || !(digits || is_introduced(text, at))) continue;
    }
    pieces.push_back({at, version});
    at = version - 1;
  }
  return pieces;
}

std::string mask(std::string_view name) {
  std::string masked;
  for (const char c : name) {
    if ((static_cast<unsigned char>(c) & 0xC0) == 0x80) continue;  // inside a character
    if (is_word(c)) {
      masked += kBlock;
    } else {
      masked += c;
    }
  }
  return masked;
}

}  // namespace

const std::vector<std::string>& known_model_names() {
  static const std::vector<std::string> names = {
      "OpenAI",      "ChatGPT",   "GPT",      "InstructGPT", "Anthropic",     "LaMDA",
      "DeepMind",    "Google AI", "Gemma",    "Meta AI",     "Mixtral",       "Mistral AI",
      "Qwen",        "Tongyi",    "DeepSeek", "ChatGLM",     "GLM",           "Baichuan",
      "InternLM",    "WizardLM",  "xAI",      "Bing Chat",   "OpenAssistant", "Open Assistant",
      "OLMo",        "Nemotron",  "StableLM", "RWKV",        "Kimi K2",       "MiniMax",
      "Ernie Bot",   "Doubao",    "Hunyuan",  "HuggingChat", "OpenChat",      "SmolLM",
      "Character.AI"};
  return names;
}

const std::vector<std::string>& ambiguous_model_names() {
  static const std::vector<std::string> names = {
      "Claude",     "Gemini",     "Bard",     "Llama",   "Vicuna", "Alpaca", "Mistral",
      "Falcon",     "MPT",        "Phi",      "Yi",      "Cohere", "Grok",   "Command R",
      "Copilot",    "Perplexity", "Pythia",   "Koala",   "Dolly",  "Zephyr", "Tulu",
      "Inflection", "Jurassic",   "Starling", "Davinci", "PaLM",   "Solar",  "Kimi"};
  return names;
}

std::string scrub_names(std::string_view text, const std::vector<std::string>& further) {
  std::string scrubbed;
  std::size_t from = 0;
  for (const Piece& piece : find_names(text, further)) {
    scrubbed += text.substr(from, piece.begin - from);
    scrubbed += mask(text.substr(piece.begin, piece.end - piece.begin));
    from = piece.end;
  }
  scrubbed += text.substr(from);
  return scrubbed;
}

std::string unscrub_names(std::string_view edited, std::string_view original,
                          const std::vector<std::string>& further) {
  std::string restored;
  std::size_t from = 0;
  for (const Piece& piece : find_names(original, further)) {
    const auto name = original.substr(piece.begin, piece.end - piece.begin);
    const std::string masked = mask(name);
    const std::size_t at = edited.find(masked, from);
    if (at == std::string_view::npos) return std::string(edited);
    restored += edited.substr(from, at - from);
    restored += name;
    from = at + masked.size();
  }
  restored += edited.substr(from);
  return restored;
}

}  // namespace hone::data
