#pragma once

// GPT-2's writing of bytes as visible characters: printable Latin-1 as itself, every other byte as
// a character from U+0100 on, in order.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/tokenizer/vocabulary.h"

namespace hone::engine {

/// The character (U+0021 to U+0143) that stands for a byte.
char32_t byte_level_character(unsigned char byte);

/// The byte that a character stands for, -1 for none.
int byte_level_byte(char32_t code);

/// Every byte of `bytes` as its character, in UTF-8.
void append_byte_level(std::string& text, std::string_view bytes);

/// The bytes that a token's characters stand for; a token with any other character is its own
/// UTF-8 (added tokens contain spaces, for example).
void append_token_bytes(std::string& bytes, std::string_view token);

/// By byte: the id of its token <0xXX>, -1 when the vocabulary lacks it.
std::array<int32_t, 256> byte_fallback_ids(const Vocabulary& vocabulary);

}  // namespace hone::engine
