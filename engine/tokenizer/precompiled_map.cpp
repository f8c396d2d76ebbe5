#include "engine/tokenizer/precompiled_map.h"

#include <utf8proc.h>

#include "engine/tokenizer/unicode_tables.h"
#include "engine/tokenizer/utf8.h"

namespace hone::engine {
namespace {

std::string decode_base64(const JsonField& field) {
  const std::string& text = field.text();
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  uint32_t bits = 0;
  int count = 0;
  std::string_view body = text;
  while (!body.empty() && body.back() == '=') body.remove_suffix(1);
  for (const char c : body) {
    constexpr std::string_view kDigits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const size_t digit = kDigits.find(c);
    if (digit == kDigits.npos) field.fail("base64", "another character");
    bits = bits << 6 | static_cast<uint32_t>(digit);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes.push_back(static_cast<char>(bits >> count));
    bits &= (1u << count) - 1;
  }
  return bytes;
}

uint32_t little_endian(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 4; i > 0; --i) value = value << 8 | static_cast<unsigned char>(bytes[at + i - 1]);
  return value;
}

// The units of a double array.
bool has_leaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t value_of(uint32_t unit) { return unit & 0x7FFFFFFF; }
uint32_t label_of(uint32_t unit) { return unit & 0x800000FF; }
uint32_t offset_of(uint32_t unit) { return unit >> 10 << ((unit & 0x200) >> 6); }

// Whether a grapheme ends between two characters. Marks that this machine's utf8proc does not know
// yet are known to our tables.
bool breaks_between(char32_t left, char32_t right, int32_t* state) {
  const bool is_break = utf8proc_grapheme_break_stateful(
      static_cast<utf8proc_int32_t>(left), static_cast<utf8proc_int32_t>(right), state);
  if (!is_break || right < 0x300) return is_break;
  const std::string_view here = general_category(right), before = general_category(left);
  const bool is_mark = here == "Mn" || here == "Me";
  return !is_mark || before == "Cc" || before == "Zl" || before == "Zp";
}

}  // namespace

PrecompiledMap PrecompiledMap::parse(const JsonField& field) {
  const std::string bytes = decode_base64(field);
  PrecompiledMap map;
  if (bytes.empty()) return map;
  const size_t size = bytes.size() >= 4 ? little_endian(bytes, 0) : 0;
  if (size < 4 || size % 4 != 0 || size > bytes.size() - 4) {
    field.fail("a trie of whole units, within the data", std::to_string(size) + " bytes");
  }
  for (size_t at = 4; at < 4 + size; at += 4) map.units_.push_back(little_endian(bytes, at));
  map.replacements_ = bytes.substr(4 + size);
  if (utf8_valid_prefix(map.replacements_) != map.replacements_.size()) {
    field.fail("replacements in UTF-8", "other bytes");
  }
  return map;
}

bool PrecompiledMap::find(std::string_view part, std::string_view* replacement) const {
  if (units_.empty()) return false;
  uint32_t at = offset_of(units_[0]);
  for (const char c : part) {
    const uint32_t byte = static_cast<unsigned char>(c);
    if (byte == 0) return false;
    at ^= byte;
    if (at >= units_.size() || label_of(units_[at]) != byte) return false;
    const uint32_t unit = units_[at];
    at ^= offset_of(unit);
    if (!has_leaf(unit)) continue;
    const uint32_t begin = at < units_.size() ? value_of(units_[at]) : UINT32_MAX;
    const bool starts_character = begin < replacements_.size() &&
                                  (static_cast<unsigned char>(replacements_[begin]) & 0xC0) != 0x80;
    if (!starts_character) return false;
    *replacement = std::string_view(replacements_).substr(begin);
    *replacement = replacement->substr(0, replacement->find('\0'));
    return true;
  }
  return false;
}

void PrecompiledMap::apply(std::string& text) const {
  constexpr size_t kLongestWhole = 5;  // bytes
  std::string result;
  result.reserve(text.size());
  const std::string_view view = text;
  std::string_view replacement;
  for (size_t begin = 0; begin < view.size();) {
    size_t end = begin;
    char32_t left = utf8_next(view, end);
    int32_t state = 0;
    while (end < view.size()) {
      size_t after = end;
      const char32_t right = utf8_next(view, after);
      // Two characters of ASCII are a grapheme only as a line end.
      if (left < 0x80 && right < 0x80 && !(left == '\r' && right == '\n')) break;
      if (breaks_between(left, right, &state)) break;
      left = right;
      end = after;
    }
    const std::string_view grapheme = view.substr(begin, end - begin);
    begin = end;
    if (grapheme.size() <= kLongestWhole && find(grapheme, &replacement)) {
      result += replacement;
      continue;
    }
    for (size_t at = 0; at < grapheme.size();) {
      const std::string_view character = grapheme.substr(at, utf8_size(grapheme[at]));
      at += character.size();
      result += find(character, &replacement) ? replacement : character;
    }
  }
  text = std::move(result);
}

}  // namespace hone::engine
