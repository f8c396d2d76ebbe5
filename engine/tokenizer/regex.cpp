#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/tokenizer/regex.h"

#include <pcre2.h>

#include <cstdint>

#include "data/error.h"
#include "engine/io/json.h"
#include "engine/tokenizer/regex_syntax.h"
#include "engine/tokenizer/utf8.h"

namespace hone::engine {
namespace {

using data::InputError;

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
                     error_text(error) + " in " + shown_json(std::string(pattern)));
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
