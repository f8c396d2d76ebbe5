#pragma once

#include <cstddef>
#include <string_view>

namespace hone::data {

/// Index of the first byte that is not part of well-formed UTF-8 (RFC 3629: no overlong forms, no
/// surrogates, at most U+10FFFF), or npos when all is well.
std::size_t find_invalid_utf8(std::string_view text);

}  // namespace hone::data
