#pragma once

// The "normalizer" of a tokenizer.json: text to text, before any splitting.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/io/json.h"

namespace hone::engine {

class Normalizer {
 public:
  Normalizer() = default;  // leaves text as it is
  /// Throws data::InputError for a kind or field that Hone does not know.
  static Normalizer parse(const JsonField& field);

  bool empty() const { return steps_.empty(); }
  /// `text` is valid UTF-8.
  std::string apply(std::string_view text) const;

 private:
  void add(const JsonField& field, int depth);
  std::vector<std::function<void(std::string&)>> steps_;
};

}  // namespace hone::engine
