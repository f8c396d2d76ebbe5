#include "engine/tokenizer/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>

#include "data/error.h"
#include "engine/tokenizer/pattern.h"
#include "engine/tokenizer/utf8.h"

namespace hone::engine {
namespace {

// In the four forms every code below U+00A0 stays and never composes with its right neighbour
// unless that is a mark (U+0300 and above); the composed forms keep all below U+0300.
void normalize_form(std::string& text, int options) {
  const bool composed = options == (UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  const unsigned char first_lead = composed ? 0xCC : 0xC2;
  const bool unchanged = std::none_of(text.begin(), text.end(), [first_lead](char c) {
    return static_cast<unsigned char>(c) >= first_lead;
  });
  if (unchanged) return;
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                             static_cast<utf8proc_ssize_t>(text.size()), &result,
                                             static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, &std::free);
  if (size < 0) throw data::Error(std::string("normalization: ") + utf8proc_errmsg(size));
  text.assign(reinterpret_cast<const char*>(result), static_cast<size_t>(size));
}

void lowercase(std::string& text) {
  std::string result;
  result.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const char32_t code = utf8_next(text, at);
    if (code == 0x130) {  // the only letter whose lower case is two characters
      result += "i\xCC\x87";
    } else {
      utf8_append(result,
                  static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))));
    }
  }
  text = std::move(result);
}

void strip(std::string& text, bool left, bool right) {
  size_t begin = 0, end = 0, at = 0;
  bool seen = false;
  while (at < text.size()) {
    const size_t start = at;
    if (is_white_space(utf8_next(text, at))) continue;
    if (!seen) begin = start;
    seen = true;
    end = at;
  }
  if (!seen && (left || right)) return text.clear();
  if (right) text.resize(end);
  if (left) text.erase(0, begin);
}

}  // namespace

void Normalizer::add(const JsonField& field, int depth) {
  static const std::map<std::string, int> kForms = {
      {"NFC", UTF8PROC_STABLE | UTF8PROC_COMPOSE},
      {"NFD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE},
      {"NFKC", UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
      {"NFKD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT}};
  const std::string& type = field.at("type").text();
  if (type == "Sequence") {
    const JsonField list = field.at("normalizers");
    if (depth > 8) list.fail("at most 8 levels of Sequence", "more");
    for (size_t i = 0; i < list.list_size(); ++i) add(list.at(i), depth + 1);
  } else if (const auto form = kForms.find(type); form != kForms.end()) {
    steps_.push_back(
        [options = form->second](std::string& text) { normalize_form(text, options); });
  } else if (type == "Lowercase") {
    steps_.push_back(lowercase);
  } else if (type == "Prepend") {
    steps_.push_back([prefix = field.at("prepend").text()](std::string& text) {
      if (!text.empty()) text.insert(0, prefix);
    });
  } else if (type == "Replace") {
    // Shared, because std::function copies what it holds.
    auto pattern = std::make_shared<const Regex>(parse_pattern(field.at("pattern")));
    steps_.push_back([pattern, content = field.at("content").text()](std::string& text) {
      text = replaced(text, *pattern, content);
    });
  } else if (type == "Strip") {
    const bool left = field.boolean_or("strip_left", true);
    const bool right = field.boolean_or("strip_right", true);
    steps_.push_back([left, right](std::string& text) { strip(text, left, right); });
  } else {
    field.at("type").fail("NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Strip or Sequence");
  }
}

Normalizer Normalizer::parse(const JsonField& field) {
  Normalizer normalizer;
  if (!field.value().is_null()) normalizer.add(field, 0);
  return normalizer;
}

std::string Normalizer::apply(std::string_view text) const {
  std::string result(text);
  for (const auto& step : steps_) step(result);
  return result;
}

}  // namespace hone::engine
