#include "engine/tokenizer/normalizer.h"

#include <map>
#include <memory>

#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/normal_forms.h"
#include "engine/tokenizer/pattern.h"
#include "engine/tokenizer/precompiled_map.h"
#include "engine/tokenizer/utf8.h"

namespace hone::engine {
namespace {

// Of sentencepiece's rules: control characters go, every kind of white space becomes a space.
void apply_nmt(std::string& text) {
  std::string result;
  result.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const char32_t code = utf8_next(text, at);
    const bool is_space = code == 0x09 || code == 0x0A || code == 0x0C || code == 0x0D ||
                          code == 0x1680 || (code >= 0x200B && code <= 0x200F) || code == 0x2028 ||
                          code == 0x2029 || code == 0x2581 || code == 0xFEFF || code == 0xFFFD;
    const bool is_control =
        (code > 0 && code < 0x20) || code == 0x7F || code == 0x8F || code == 0x9F;
    if (is_space) {
      result += ' ';
    } else if (!is_control) {
      result.append(text, begin, at - begin);
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
  static const std::map<std::string, NormalForm> kForms = {{"NFC", NormalForm::kNfc},
                                                           {"NFD", NormalForm::kNfd},
                                                           {"NFKC", NormalForm::kNfkc},
                                                           {"NFKD", NormalForm::kNfkd}};
  const std::string& type = field.at("type").text();
  if (type == "Sequence") {
    const JsonField list = field.at("normalizers");
    if (depth > 8) list.fail("at most 8 levels of Sequence", "more");
    for (size_t i = 0; i < list.list_size(); ++i) add(list.at(i), depth + 1);
  } else if (const auto form = kForms.find(type); form != kForms.end()) {
    steps_.push_back([form = form->second](std::string& text) { normalize(text, form); });
  } else if (type == "Lowercase") {
    steps_.push_back(lowercase);
  } else if (type == "StripAccents") {
    steps_.push_back(strip_accents);
  } else if (type == "Nmt") {
    steps_.push_back(apply_nmt);
  } else if (type == "ByteLevel") {
    steps_.push_back([](std::string& text) {
      std::string characters;
      append_byte_level(characters, text);
      text = std::move(characters);
    });
  } else if (type == "Precompiled") {
    // Shared, because std::function copies what it holds.
    auto map = std::make_shared<const PrecompiledMap>(
        PrecompiledMap::parse(field.at("precompiled_charsmap")));
    steps_.push_back([map](std::string& text) { map->apply(text); });
  } else if (type == "Prepend") {
    steps_.push_back([prefix = field.at("prepend").text()](std::string& text) {
      if (!text.empty()) text.insert(0, prefix);
    });
  } else if (type == "Replace") {
    auto pattern = std::make_shared<const Regex>(parse_pattern(field.at("pattern")));
    steps_.push_back([pattern, content = field.at("content").text()](std::string& text) {
      text = replaced(text, *pattern, content);
    });
  } else if (type == "Strip") {
    const bool left = field.boolean_or("strip_left", true);
    const bool right = field.boolean_or("strip_right", true);
    steps_.push_back([left, right](std::string& text) { strip(text, left, right); });
  } else {
    field.at("type").fail(
        "NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, Prepend, Replace, Nmt, Precompiled, "
        "ByteLevel or Sequence");
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
