#pragma once

// The "model" of a tokenizer.json, of any type that Hone knows.

#include <cstdint>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "engine/io/json.h"
#include "engine/tokenizer/bpe.h"
#include "engine/tokenizer/unigram.h"

namespace hone::engine {

/// What encoding needs beside the model, kept between calls; one per thread at work.
struct ModelScratch {
  BpeScratch bpe;
  UnigramScratch unigram;
};

class TokenModel {
 public:
  /// Throws data::InputError naming the field.
  static TokenModel parse(const JsonField& field) {
    // Files without a type are old BPE, but for those whose vocabulary is a list.
    const bool is_list = field.has("vocab") && field.at("vocab").value().is_array();
    const std::string type = field.text_or("type", is_list ? "Unigram" : "BPE");
    if (type == "BPE") return TokenModel(Bpe::parse(field));
    if (type == "Unigram") return TokenModel(Unigram::parse(field));
    field.at("type").fail("BPE or Unigram");
  }

  void encode(std::string_view word, bool bytes, ModelScratch& scratch,
              std::vector<int32_t>& ids) const {
    if (const Bpe* bpe = std::get_if<Bpe>(&model_)) {
      bpe->encode(word, bytes, scratch.bpe, ids);
    } else {
      std::get<Unigram>(model_).encode(word, bytes, scratch.unigram, ids);
    }
  }

  const Vocabulary& vocabulary() const {
    const Bpe* bpe = std::get_if<Bpe>(&model_);
    return bpe != nullptr ? bpe->vocabulary() : std::get<Unigram>(model_).vocabulary();
  }

 private:
  template <class Model>
  explicit TokenModel(Model model) : model_(std::move(model)) {}
  std::variant<Bpe, Unigram> model_;
};

}  // namespace hone::engine
