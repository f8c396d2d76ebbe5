#include "engine/tokenizer/normal_forms.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "data/error.h"
#include "engine/tokenizer/unicode_tables.h"
#include "engine/tokenizer/utf8.h"

namespace hone::engine {
namespace {

void append_normalized(std::string& result, std::string_view text, int options) {
  utf8proc_uint8_t* mapped = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                             static_cast<utf8proc_ssize_t>(text.size()), &mapped,
                                             static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
  if (size < 0) throw data::Error(std::string("normalization: ") + utf8proc_errmsg(size));
  result.append(reinterpret_cast<const char*>(mapped), static_cast<size_t>(size));
}

bool has_byte_from(const std::string& text, unsigned char least) {
  return std::any_of(text.begin(), text.end(),
                     [least](char c) { return static_cast<unsigned char>(c) >= least; });
}

int options_of(NormalForm form) {
  switch (form) {
    case NormalForm::kNfc:
      return UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    case NormalForm::kNfd:
      return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    case NormalForm::kNfkc:
      return UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT;
    case NormalForm::kNfkd:
      break;
  }
  return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT;
}

}  // namespace

void normalize(std::string& text, NormalForm form) {
  // In the four forms every code below U+00A0 stays and never composes with its right neighbour
  // unless that is a mark (U+0300 and above); NFC keeps all below U+0300.
  if (!has_byte_from(text, form == NormalForm::kNfc ? 0xCC : 0xC2)) return;
  const int options = options_of(form);
  std::string result;
  result.reserve(text.size() + text.size() / 8);
  size_t done = 0;
  const auto flush = [&](size_t end) {
    if (end > done)
      append_normalized(result, std::string_view(text).substr(done, end - done), options);
  };
  // A character without a place in the form parts what stands around it.
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    if (static_cast<unsigned char>(text[at]) < 0xD5) {  // all are above U+0557
      at += utf8_size(text[at]);
      continue;
    }
    if (!in_ranges(kLaterThanForms, kLaterThanFormsSize, utf8_next(text, at))) continue;
    flush(begin);
    result.append(text, begin, at - begin);
    done = at;
  }
  flush(text.size());
  text = std::move(result);
}

void strip_accents(std::string& text) {
  if (!has_byte_from(text, 0xCC)) return;
  std::string result;
  result.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const char32_t code = utf8_next(text, at);
    if (code >= 0x300 && in_ranges(kCombiningMarks, kCombiningMarksSize, code)) continue;
    result.append(text, begin, at - begin);
  }
  text = std::move(result);
}

void lowercase(std::string& text) {
  std::string result;
  result.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const char c = text[at];
    if (static_cast<unsigned char>(c) < 0x80) {
      result += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
      ++at;
      continue;
    }
    const char32_t code = utf8_next(text, at);
    if (code == 0x130) {  // the only letter whose lower case is two characters
      result += "i\xCC\x87";
    } else {
      utf8_append(result, lower_case(code));
    }
  }
  text = std::move(result);
}

}  // namespace hone::engine
