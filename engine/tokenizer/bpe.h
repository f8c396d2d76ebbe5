#pragma once

// The "model" of a tokenizer.json, type BPE: words to ids by merging pairs, lowest rank first, of
// equal rank the leftmost (Sennrich et al. 2016, https://arxiv.org/abs/1508.07909).

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/json.h"
#include "engine/tokenizer/merge_table.h"
#include "engine/tokenizer/vocabulary.h"
#include "engine/tokenizer/word_cache.h"

namespace hone::engine {

/// What encoding needs beside the model, kept between calls; one per thread at work.
struct BpeScratch {
  WordCache cache;
  std::string text;
  std::vector<int32_t> ids;
  std::vector<uint32_t> ranks;
  std::vector<int32_t> previous, next;
  std::vector<uint64_t> heap;
};

class Bpe {
 public:
  /// Throws data::InputError naming the field: another model type, ids twice, merges of unknown
  /// tokens, dropout.
  static Bpe parse(const JsonField& field);

  /// Appends the ids of a word (valid UTF-8, not empty). `bytes`: the word's bytes stand for their
  /// characters of byte_level.h. Linear in its length but for a logarithm. Throws
  /// data::InputError when it needs an unknown token that the vocabulary lacks.
  void encode(std::string_view word, bool bytes, BpeScratch& scratch,
              std::vector<int32_t>& ids) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  void encode_unseen(std::string_view word, bool bytes, BpeScratch& scratch,
                     std::vector<int32_t>& ids) const;
  void append_symbols(std::string_view text, std::vector<int32_t>& symbols) const;
  bool append_bytes_of(std::string_view character, std::vector<int32_t>& symbols) const;
  void merge_short(BpeScratch& scratch) const;
  void merge_long(BpeScratch& scratch) const;
  void parse_merges(const JsonField& field);

  Vocabulary vocabulary_;
  MergeTable merges_;
  std::string where_;
  std::string unknown_token_;
  std::string continuing_prefix_;  // of every character of a word but its first
  std::string word_suffix_;        // of its last character
  bool fuse_unknown_ = false, ignore_merges_ = false;
  bool has_byte_fallback_ = false, has_all_byte_characters_ = true;
  std::array<int32_t, 256> byte_character_{};  // id of the character that stands for the byte
  std::array<int32_t, 256> byte_fallback_{};   // id of <0xXX>, -1 when the vocabulary lacks it
};

}  // namespace hone::engine
