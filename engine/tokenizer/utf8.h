#pragma once

// UTF-8 as tokenizers need it: validity, repair, one character at a time.

#include <cstddef>
#include <string>
#include <string_view>

namespace hone::engine {

constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

/// Bytes of the character that a lead byte of valid UTF-8 begins.
inline size_t utf8_size(char lead) {
  const unsigned char byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/// The code point at `at` of valid UTF-8; `at` moves behind it.
char32_t utf8_next(std::string_view text, size_t& at);

void utf8_append(std::string& text, char32_t code);

/// Length of the longest valid prefix. Overlong forms, surrogates and codes above U+10FFFF are
/// invalid.
size_t utf8_valid_prefix(std::string_view bytes);

/// Each maximal invalid part becomes one U+FFFD (Unicode 3.9, as Rust and Python do).
std::string utf8_repaired(std::string_view bytes);

/// How many bytes at the end begin a character that later bytes may complete (0 to 3).
size_t utf8_incomplete_tail(std::string_view bytes);

/// Unicode's White_Space.
bool is_white_space(char32_t code);

/// What Rust's regular expressions call \w: letters, marks, decimal digits, connectors, joiners.
bool is_word_character(char32_t code);

}  // namespace hone::engine
