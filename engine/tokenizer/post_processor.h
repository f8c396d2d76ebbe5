#pragma once

// The "post_processor" of a tokenizer.json: ids that encode(add_special) puts around a text.

#include <cstdint>
#include <vector>

#include "engine/io/json.h"

namespace hone::engine {

struct PostProcessor {
  std::vector<int32_t> prefix, suffix;

  /// Throws data::InputError for a kind or field that Hone does not know.
  static PostProcessor parse(const JsonField& field);
};

}  // namespace hone::engine
