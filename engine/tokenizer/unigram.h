#pragma once

// The "model" of a tokenizer.json, type Unigram: the most probable segmentation of a word into
// tokens of given log-probabilities, by Viterbi's algorithm (Kudo 2018,
// https://arxiv.org/abs/1804.10959).

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/json.h"
#include "engine/tokenizer/byte_trie.h"
#include "engine/tokenizer/vocabulary.h"
#include "engine/tokenizer/word_cache.h"

namespace hone::engine {

/// What encoding needs beside the model, kept between calls; one per thread at work.
struct UnigramScratch {
  struct Best {
    double score;
    int64_t begin;  // of the last token of the best path, -1: not reached
    int32_t id;
  };
  struct Part {
    size_t begin, end;
    bool unknown;
  };
  WordCache cache;
  std::vector<Best> best;  // by the byte where a path ends
  std::vector<Part> parts;
  std::string text;
};

class Unigram {
 public:
  /// Throws data::InputError naming the field: tokens twice, scores that are no numbers, an unk_id
  /// outside the vocabulary.
  static Unigram parse(const JsonField& field);

  /// Appends the ids of a word (valid UTF-8, not empty). `bytes`: the word's bytes stand for their
  /// characters of byte_level.h. A character that no token covers is unknown, at 10 below the
  /// lowest score; unknown ones side by side are one token, or their bytes' tokens with
  /// byte_fallback. Throws data::InputError when there is no unk_id for it.
  void encode(std::string_view word, bool bytes, UnigramScratch& scratch,
              std::vector<int32_t>& ids) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  void find_best_path(std::string_view text, UnigramScratch& scratch) const;
  bool append_bytes_of(std::string_view text, std::vector<int32_t>& ids) const;

  Vocabulary vocabulary_;
  ByteTrie trie_;
  std::vector<double> scores_;  // by id
  std::string where_;
  double unknown_score_ = 0;
  int32_t unknown_id_ = -1;
  bool has_byte_fallback_ = false;
  std::array<int32_t, 256> byte_fallback_{};  // id of <0xXX>, -1 when the vocabulary lacks it
};

}  // namespace hone::engine
