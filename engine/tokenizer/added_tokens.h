#pragma once

// The "added_tokens" of a tokenizer.json: found in the text before anything is split.

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/io/json.h"
#include "engine/tokenizer/normalizer.h"

namespace hone::engine {

struct AddedToken {
  std::string content;
  std::string decoded;  // what the decoder gets: the content as normalized text has it
  int32_t id = 0;
  bool single_word = false;  // only between non-words
  bool lstrip = false;       // takes the white space at its left
  bool rstrip = false;       // and at its right
  bool normalized = false;   // searched in normalized text
  bool special = false;      // left out by decode(skip_special)
};

/// Throws data::InputError naming the field.
std::vector<AddedToken> parse_added_tokens(const JsonField& field);

/// Finds the leftmost longest of a set of tokens, again and again.
class AddedTokenFinder {
 public:
  /// Of `tokens`, those whose `normalized` is as asked; they are searched as `normalizer` leaves
  /// them.
  AddedTokenFinder(const std::vector<AddedToken>& tokens, bool normalized,
                   const Normalizer& normalizer);

  struct Part {
    std::string_view text;
    int32_t id;  // -1: text between tokens
  };
  /// Cuts `text` into tokens and the text between. Every part is non-empty.
  void split(std::string_view text, std::vector<Part>& parts) const;

 private:
  static constexpr uint32_t kRoot = 0;
  void insert(std::string_view pattern, uint32_t rule);
  /// Length of the longest token at `at`, 0 for none.
  size_t match(std::string_view text, size_t at, uint32_t* rule) const;

  std::vector<AddedToken> rules_;
  std::unordered_map<uint64_t, uint32_t> children_;  // (node, byte) -> node
  std::vector<int64_t> ends_;                        // by node: rule that ends there, or -1
  bool begins_[256] = {};                            // bytes with which a token begins
};

}  // namespace hone::engine
