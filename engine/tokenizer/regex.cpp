#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/tokenizer/regex.h"

#include <pcre2.h>

#include <cstdint>

#include "data/error.h"
#include "engine/tokenizer/utf8.h"

namespace hone::engine {
namespace {

using data::InputError;

// What Oniguruma means in UTF-8, for the inside of a class.
constexpr std::string_view kSpace = "\\t-\\r \\x{85}\\p{Z}";
constexpr std::string_view kWord =
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}"
    "\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}";
constexpr std::string_view kDigit = "\\p{Nd}";

std::string error_text(int code) {
  PCRE2_UCHAR message[256] = {};
  pcre2_get_error_message(code, message, sizeof message);
  return reinterpret_cast<const char*>(message);
}

// What a match needs beside the pattern; one per thread, since matches of a thread do not nest.
struct MatchSpace {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(64 << 10, 32 << 20, nullptr);

  MatchSpace() {
    if (data == nullptr || context == nullptr || stack == nullptr) throw std::bad_alloc();
    pcre2_jit_stack_assign(context, nullptr, stack);
    // Far above what one pass over a long run of spaces needs, far below a hang.
    pcre2_set_match_limit(context, 100'000'000);
    pcre2_set_heap_limit(context, 256 << 10);  // KiB, without the compiler
  }
  ~MatchSpace() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  MatchSpace(const MatchSpace&) = delete;
  MatchSpace& operator=(const MatchSpace&) = delete;
};

}  // namespace

std::string to_pcre2_syntax(std::string_view pattern, const std::string& where) {
  std::string result;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '[' && !in_class) {
      in_class = true;
      result += c;
      if (i + 1 < pattern.size() && pattern[i + 1] == '^') result += pattern[++i];
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') (result += '\\') += pattern[++i];
      continue;
    }
    if (c == '[' && in_class && pattern.substr(i, 2) != "[:") {
      throw InputError(where, "pattern", "no class inside a class", std::string(pattern));
    }
    if (c == '&' && in_class && pattern.substr(i, 2) == "&&") {
      throw InputError(where, "pattern", "no intersection of classes", std::string(pattern));
    }
    if (c == '[' && in_class) {  // [:alpha:]
      const size_t end = pattern.find(":]", i);
      if (end != std::string_view::npos) {
        result += pattern.substr(i, end + 2 - i);
        i = end + 1;
        continue;
      }
    }
    if (c == ']') in_class = false;
    if (c != '\\' || i + 1 == pattern.size()) {
      result += c;
      continue;
    }
    const char letter = pattern[++i];
    const std::string_view set = letter == 's' || letter == 'S'   ? kSpace
                                 : letter == 'w' || letter == 'W' ? kWord
                                 : letter == 'd' || letter == 'D' ? kDigit
                                                                  : std::string_view();
    const bool complement = letter == 'S' || letter == 'W' || letter == 'D';
    if (letter == 'h' || letter == 'H' || letter == 'R' || letter == 'X' || letter == 'K' ||
        letter == 'Q' || (complement && in_class && letter != 'D')) {
      // \h is a hexadecimal digit there and a blank here; a complement inside a class cannot be
      // spelled out.
      throw InputError(where, "pattern", "escapes that both regex dialects share",
                       std::string("\\") + letter);
    }
    if (set.empty() || (complement && in_class)) {
      (result += c) += letter;
    } else if (in_class) {
      result += set;
    } else {
      ((result += complement ? "[^" : "[") += set) += "]";
    }
  }
  return result;
}

std::string escaped_pattern(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                       static_cast<unsigned char>(c) >= 0x80;
    if (!plain) {
      constexpr char kHex[] = "0123456789abcdef";
      const unsigned char byte = static_cast<unsigned char>(c);
      ((pattern += "\\x{") += kHex[byte >> 4]) += kHex[byte & 15];
      pattern += "}";
    } else {
      pattern += c;
    }
  }
  return pattern;
}

struct Regex::Code {
  pcre2_code* code = nullptr;
  bool compiled = false;  // to machine code
  ~Code() { pcre2_code_free(code); }
};

Regex::Regex(std::string_view pattern, const std::string& where)
    : code_(std::make_unique<Code>()), where_(where) {
  if (utf8_valid_prefix(pattern) != pattern.size() || pattern.size() > 10'000) {
    throw InputError(where, "pattern", "at most 10000 bytes of UTF-8",
                     std::to_string(pattern.size()) + " bytes");
  }
  const std::string rewritten = to_pcre2_syntax(pattern, where);
  int error = 0;
  size_t offset = 0;
  // PCRE2_MULTILINE: ^ and $ are those of a line in Oniguruma. \C would break characters apart.
  code_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(rewritten.data()), rewritten.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                              &error, &offset, nullptr);
  if (code_->code == nullptr) {
    throw InputError(where, "pattern", "a valid regular expression",
                     error_text(error) + " in " + std::string(pattern));
  }
  code_->compiled = pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE) == 0;
}

Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

bool Regex::find(std::string_view text, size_t from, size_t last_end, Match* match) const {
  thread_local MatchSpace space;
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data() != nullptr ? text.data() : "");
  while (from <= text.size()) {
    const int found = code_->compiled ? pcre2_jit_match(code_->code, subject, text.size(), from, 0,
                                                        space.data, space.context)
                                      : pcre2_match(code_->code, subject, text.size(), from,
                                                    PCRE2_NO_UTF_CHECK, space.data, space.context);
    if (found == PCRE2_ERROR_NOMATCH) return false;
    if (found < 0) {
      throw InputError(where_, "pattern", "to match within bounded work", error_text(found));
    }
    const size_t* bounds = pcre2_get_ovector_pointer(space.data);
    *match = {bounds[0], bounds[1]};
    if (match->begin > match->end) {  // \K in a lookahead
      throw InputError(where_, "pattern", "matches that end behind their begin", "one before");
    }
    if (match->begin != match->end || match->end != last_end) return true;
    from = match->end < text.size() ? match->end + utf8_size(text[match->end]) : text.size() + 1;
  }
  return false;
}

}  // namespace hone::engine
