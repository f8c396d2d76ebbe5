#pragma once

// The "precompiled_charsmap" of sentencepiece: a map from short strings to their replacements, in a
// double-array trie (Aoe 1989; the layout of darts-clone).

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/json.h"

namespace hone::engine {

class PrecompiledMap {
 public:
  /// From base64 text: size of the trie in bytes, its units, then the replacements, each ended by a
  /// zero byte. Throws data::InputError naming the field.
  static PrecompiledMap parse(const JsonField& field);

  /// Replaces as `tokenizers` does: a grapheme of fewer than 6 bytes whole, by what its shortest
  /// known beginning maps to; else each of its characters.
  void apply(std::string& text) const;

 private:
  /// What the shortest known beginning of `part` maps to; false when there is none.
  bool find(std::string_view part, std::string_view* replacement) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace hone::engine
