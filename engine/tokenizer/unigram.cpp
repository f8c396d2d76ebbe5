#include "engine/tokenizer/unigram.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "data/error.h"
#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/utf8.h"

namespace hone::engine {

using data::InputError;

Unigram Unigram::parse(const JsonField& field) {
  constexpr double kUnknownPenalty = 10.0;  // sentencepiece's
  Unigram unigram;
  unigram.where_ = field.where();
  const JsonField vocab = field.at("vocab");
  const size_t count = vocab.list_size();
  std::vector<std::pair<std::string_view, int64_t>> tokens;
  std::vector<std::pair<std::string_view, int32_t>> strings;
  tokens.reserve(count);
  double lowest = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < count; ++i) {
    const nlohmann::json& entry = vocab.value()[i];
    const bool is_pair =
        entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_number();
    if (!is_pair) vocab.at(i).fail("[token, log-probability]");
    const std::string_view token = entry[0].get_ref<const std::string&>();
    const double score = entry[1].get<double>();
    if (!std::isfinite(score)) vocab.at(i).fail("a finite log-probability");
    tokens.emplace_back(token, static_cast<int64_t>(i));
    if (!token.empty()) strings.emplace_back(token, static_cast<int32_t>(i));
    unigram.scores_.push_back(score);
    lowest = std::min(lowest, score);
  }
  unigram.vocabulary_ = Vocabulary(tokens, field.where());
  unigram.trie_ = ByteTrie(std::move(strings));
  unigram.unknown_score_ = lowest - kUnknownPenalty;
  if (field.has("unk_id")) {
    if (count == 0) field.at("unk_id").fail("null with an empty vocabulary");
    unigram.unknown_id_ =
        static_cast<int32_t>(field.at("unk_id").integer(0, static_cast<int64_t>(count) - 1));
  }
  unigram.has_byte_fallback_ = field.boolean_or("byte_fallback", false);
  unigram.byte_fallback_ = byte_fallback_ids(unigram.vocabulary_);
  return unigram;
}

void Unigram::find_best_path(std::string_view text, UnigramScratch& scratch) const {
  std::vector<UnigramScratch::Best>& best = scratch.best;
  best.assign(text.size() + 1, {0.0, -1, -1});
  const auto offer = [&](size_t begin, size_t end, double score, int32_t id) {
    UnigramScratch::Best& target = best[end];
    if (target.begin >= 0 && score <= target.score) return;
    target = {score, static_cast<int64_t>(begin), id};
  };
  for (size_t at = 0; at < text.size();) {
    const double here = best[at].score;
    const size_t character = utf8_size(text[at]);
    bool has_token = false;
    trie_.for_each_at(text, at, [&](size_t length, int32_t id) {
      offer(at, at + length, here + scores_[static_cast<size_t>(id)], id);
      has_token = has_token || length == character;
    });
    if (!has_token) {
      if (unknown_id_ < 0) {
        throw InputError(where_, "model.unk_id", "an id for unknown characters",
                         "none, with " + shown_json(std::string(text.substr(at, character))));
      }
      offer(at, at + character, here + unknown_score_, unknown_id_);
    }
    at += character;
  }
}

bool Unigram::append_bytes_of(std::string_view text, std::vector<int32_t>& ids) const {
  const auto id = [this](char c) { return byte_fallback_[static_cast<unsigned char>(c)]; };
  if (!std::all_of(text.begin(), text.end(), [&](char c) { return id(c) >= 0; })) return false;
  for (const char c : text) ids.push_back(id(c));
  return true;
}

void Unigram::encode(std::string_view word, bool bytes, UnigramScratch& scratch,
                     std::vector<int32_t>& ids) const {
  if (word.size() > INT32_MAX / 4) {
    throw InputError(where_, "text", "words below 512 MiB", std::to_string(word.size()));
  }
  const bool cacheable = word.size() <= WordCache::kLongestWord;
  if (cacheable && scratch.cache.find(word, ids)) return;
  const size_t before = ids.size();
  std::string_view text = word;
  if (bytes) {
    scratch.text.clear();
    append_byte_level(scratch.text, word);
    text = scratch.text;
  }
  find_best_path(text, scratch);
  std::vector<UnigramScratch::Part>& parts = scratch.parts;  // from the end
  parts.clear();
  for (size_t end = text.size(); end > 0;) {
    const UnigramScratch::Best& node = scratch.best[end];
    const auto begin = static_cast<size_t>(node.begin);
    const bool unknown = node.id == unknown_id_;
    if (unknown && !parts.empty() && parts.back().unknown) {
      parts.back().begin = begin;
    } else {
      parts.push_back({begin, end, unknown});
    }
    end = begin;
  }
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    const std::string_view token = text.substr(part->begin, part->end - part->begin);
    if (const int32_t id = vocabulary_.id_of(token); id >= 0) {
      ids.push_back(id);
    } else if (!(has_byte_fallback_ && append_bytes_of(token, ids))) {
      ids.push_back(unknown_id_);
    }
  }
  if (cacheable) scratch.cache.insert(word, std::span(ids).subspan(before));
}

}  // namespace hone::engine
