#pragma once

// The "decoder" of a tokenizer.json: tokens back to text.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/json.h"

namespace hone::engine {

class Decoder {
 public:
  Decoder() = default;  // tokens with spaces between
  /// Throws data::InputError for a kind or field that Hone does not know.
  static Decoder parse(const JsonField& field);

  /// Valid UTF-8: bytes that are none become U+FFFD.
  std::string apply(std::vector<std::string> tokens) const;

  /// The text is each token's bytes, one after the other: nothing before or after a token changes
  /// what it stands for.
  bool is_byte_level() const { return byte_level_; }

 private:
  using Tokens = std::vector<std::string>;
  void add(const JsonField& field, int depth);
  std::vector<std::function<void(Tokens&)>> steps_;
  bool joined_by_spaces_ = true;
  bool byte_level_ = false;
};

/// The byte of a token "<0xXX>", -1 for any other.
int fallback_byte(std::string_view token);

}  // namespace hone::engine
