#pragma once

// The parts of a Tokenizer, for the sources that implement it.

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/tokenizer/added_tokens.h"
#include "engine/tokenizer/decoder.h"
#include "engine/tokenizer/model.h"
#include "engine/tokenizer/normalizer.h"
#include "engine/tokenizer/post_processor.h"
#include "engine/tokenizer/pretokenizer.h"
#include "engine/tokenizer/tokenizer.h"

namespace hone::engine {

struct Tokenizer::Impl {
  /// Buffers and word cache of one call; calls take turns with them.
  struct Scratch {
    ModelScratch model;
    std::vector<AddedTokenFinder::Part> parts, normalized_parts;
    std::vector<Piece> pieces;
  };

  Impl(std::string text, const JsonField& root);

  void encode_part(std::string_view text, bool first, Scratch& scratch,
                   std::vector<int32_t>& ids) const;
  std::unique_ptr<Scratch> take_scratch() const;
  void give_back(std::unique_ptr<Scratch> scratch) const;
  /// Empty for an id without a token.
  std::string_view token_of(int64_t id) const;
  bool is_special(int32_t id) const {
    const auto found = added_by_id.find(id);
    return found != added_by_id.end() && found->second.special;
  }

  std::string json;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  TokenModel model;
  std::vector<AddedToken> added;
  std::unordered_map<int32_t, AddedToken> added_by_id;
  std::unordered_map<std::string, int32_t> added_by_content;
  AddedTokenFinder raw_finder, normalized_finder;
  PostProcessor post_processor;
  Decoder decoder;
  int64_t vocab_size = 0;

  mutable std::mutex mutex;
  mutable std::vector<std::unique_ptr<Scratch>> idle;

 private:
  void index_added_tokens(const JsonField& field);
};

}  // namespace hone::engine
