#include "engine/tokenizer/utf8.h"

#include <algorithm>
#include <cstdint>

#include "engine/tokenizer/unicode_tables.h"

namespace hone::engine {
namespace {

// Result of looking at the bytes of one character.
struct Step {
  size_t size;  // of the character, or of the maximal invalid part
  bool valid;
  bool incomplete;  // the text ends inside what could still become a character
};

Step step_at(std::string_view bytes, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[at + i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {1, true, false};
  if (lead < 0xC2 || lead > 0xF4) return {1, false, false};
  const size_t size = utf8_size(static_cast<char>(lead));
  // The second byte's range excludes overlong forms, surrogates and codes above U+10FFFF.
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (size_t i = 1; i < size; ++i) {
    if (at + i == bytes.size()) return {i, false, true};
    const bool fits = i == 1 ? byte(i) >= low && byte(i) <= high : (byte(i) & 0xC0) == 0x80;
    if (!fits) return {i, false, false};
  }
  return {size, true, false};
}

}  // namespace

char32_t utf8_next(std::string_view text, size_t& at) {
  const size_t size = utf8_size(text[at]);
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  char32_t code = size == 1 ? byte(0) : byte(0) & (0x7Fu >> size);
  for (size_t i = 1; i < size; ++i) code = code << 6 | (byte(i) & 0x3Fu);
  at += size;
  return code;
}

void utf8_append(std::string& text, char32_t code) {
  const auto put = [&](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (code < 0x80) return put(code);
  if (code < 0x800) {
    put(0xC0 | code >> 6);
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
  }
  put(0x80 | (code & 0x3F));
}

size_t utf8_valid_prefix(std::string_view bytes) {
  size_t at = 0;
  while (at < bytes.size()) {
    const Step step = step_at(bytes, at);
    if (!step.valid) break;
    at += step.size;
  }
  return at;
}

std::string utf8_repaired(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (size_t at = 0; at < bytes.size();) {
    const size_t valid = utf8_valid_prefix(bytes.substr(at));
    text.append(bytes, at, valid);
    at += valid;
    if (at < bytes.size()) {
      text += kReplacementCharacter;
      at += step_at(bytes, at).size;
    }
  }
  return text;
}

size_t utf8_incomplete_tail(std::string_view bytes) {
  for (size_t tail = 1; tail <= std::min<size_t>(3, bytes.size()); ++tail) {
    const size_t at = bytes.size() - tail;
    if ((static_cast<unsigned char>(bytes[at]) & 0xC0) == 0x80) continue;
    const Step step = step_at(bytes, at);
    return step.incomplete ? tail : 0;
  }
  return 0;
}

bool is_white_space(char32_t code) {
  return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 ||
         code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 ||
         code == 0x202F || code == 0x205F || code == 0x3000;
}

bool is_word_character(char32_t code) {
  const std::string_view category = general_category(code);
  // Circled and squared letters are symbols with the property Alphabetic.
  return category[0] == 'L' || category[0] == 'M' || category == "Nd" || category == "Nl" ||
         category == "Pc" || (code >= 0x24B6 && code <= 0x24E9) ||
         (code >= 0x1F130 && code <= 0x1F149) || (code >= 0x1F150 && code <= 0x1F169) ||
         (code >= 0x1F170 && code <= 0x1F189) || code == 0x200C || code == 0x200D;
}

}  // namespace hone::engine
