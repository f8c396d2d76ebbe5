#pragma once

// Split patterns: Oniguruma's syntax, as tokenizer.json has it, run by PCRE2 with its compiler.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace hone::engine {

class Regex {
 public:
  struct Match {
    size_t begin, end;  // bytes
  };

  /// Throws data::InputError naming `where` when the pattern does not compile.
  Regex(std::string_view pattern, const std::string& where);
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  /// The first match at or after `from` in valid UTF-8; false when none is left. An empty match
  /// right behind `last_end` does not count. Thread-safe. Throws data::InputError when the pattern
  /// needs more backtracking than any sane one.
  bool find(std::string_view text, size_t from, size_t last_end, Match* match) const;

  /// Calls visit(begin, end) for each match, left to right.
  template <class Visit>
  void for_each(std::string_view text, Visit&& visit) const {
    Match match{0, 0};
    size_t last_end = std::string_view::npos;
    for (size_t from = 0; from <= text.size() && find(text, from, last_end, &match);) {
      visit(match.begin, match.end);
      from = last_end = match.end;
    }
  }

 private:
  struct Code;
  std::unique_ptr<Code> code_;
  std::string where_;
};

}  // namespace hone::engine
