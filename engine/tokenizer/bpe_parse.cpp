#include <utility>

#include "data/error.h"
#include "engine/tokenizer/bpe.h"
#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/utf8.h"

namespace hone::engine {
namespace {

using Pair = std::pair<std::string_view, std::string_view>;

// ["a", "b"], or "a b" in older files; false for anything else.
bool parse_merge(const nlohmann::json& value, Pair& merge) {
  using Text = const std::string&;
  if (value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string()) {
    merge = {value[0].get_ref<Text>(), value[1].get_ref<Text>()};
    return true;
  }
  if (!value.is_string()) return false;
  const std::string_view text = value.get_ref<Text>();
  const size_t space = text.find(' ');
  if (space == text.npos || text.find(' ', space + 1) != text.npos) return false;
  merge = {text.substr(0, space), text.substr(space + 1)};
  return true;
}

}  // namespace

void Bpe::parse_merges(const JsonField& field) {
  const size_t count = field.list_size();
  merges_ = MergeTable(count);
  std::string joined;
  for (size_t i = 0; i < count; ++i) {
    const nlohmann::json& value = field.value()[i];
    if (value.is_string() && value.get_ref<const std::string&>().starts_with("#version")) continue;
    Pair merge;
    if (!parse_merge(value, merge)) field.at(i).fail("[\"a\", \"b\"] or \"a b\"");
    const auto& [left, right] = merge;
    if (!right.starts_with(continuing_prefix_)) {
      field.at(i).fail("a second token that begins with the continuing_subword_prefix");
    }
    joined.assign(left).append(right.substr(continuing_prefix_.size()));
    const int32_t left_id = vocabulary_.id_of(left), right_id = vocabulary_.id_of(right);
    const int32_t joined_id = vocabulary_.id_of(joined);
    if (left_id < 0 || right_id < 0 || joined_id < 0) {
      field.at(i).fail("both tokens and their concatenation to be in the vocabulary");
    }
    merges_.add(left_id, right_id, joined_id);
  }
}

Bpe Bpe::parse(const JsonField& field) {
  if (field.has("dropout") && field.at("dropout").value() != 0.0) {
    field.at("dropout").fail("null or 0");
  }
  Bpe bpe;
  bpe.continuing_prefix_ = field.text_or("continuing_subword_prefix", "");
  bpe.word_suffix_ = field.text_or("end_of_word_suffix", "");
  bpe.where_ = field.where();
  const JsonField vocab = field.at("vocab");
  vocab.require_object();
  std::vector<std::pair<std::string_view, int64_t>> tokens;
  tokens.reserve(vocab.value().size());
  for (auto item = vocab.value().begin(); item != vocab.value().end(); ++item) {
    if (!item->is_number_unsigned() || item->get<uint64_t>() > INT32_MAX) {
      JsonField(*item, field.where(), vocab.path() + "[" + shown_json(item.key()) + "]")
          .fail("an id");
    }
    tokens.emplace_back(item.key(), item->get<int64_t>());
  }
  bpe.vocabulary_ = Vocabulary(tokens, field.where());
  bpe.parse_merges(field.at("merges"));
  bpe.unknown_token_ = field.text_or("unk_token", "");
  bpe.fuse_unknown_ = field.boolean_or("fuse_unk", false);
  bpe.ignore_merges_ = field.boolean_or("ignore_merges", false);
  bpe.has_byte_fallback_ = field.boolean_or("byte_fallback", false);
  bpe.byte_fallback_ = byte_fallback_ids(bpe.vocabulary_);
  for (unsigned byte = 0; byte < 256; ++byte) {
    std::string character;
    utf8_append(character, byte_level_character(static_cast<unsigned char>(byte)));
    bpe.byte_character_[byte] = bpe.vocabulary_.id_of(character);
    if (bpe.byte_character_[byte] < 0) bpe.has_all_byte_characters_ = false;
  }
  return bpe;
}

}  // namespace hone::engine
