#pragma once

#include <string>

#include "engine/io/json.h"
#include "engine/tokenizer/regex.h"

namespace hone::engine {

/// {"String": ".."} or {"Regex": ".."}, as normalizers, pre-tokenizers and decoders have it.
Regex parse_pattern(const JsonField& field);

/// Every match replaced by `content`.
std::string replaced(const std::string& text, const Regex& pattern, const std::string& content);

}  // namespace hone::engine
