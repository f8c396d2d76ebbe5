#pragma once

// Words of `hone inspect`.

#include <cstdint>
#include <string>

namespace hone::engine {

/// "950 B", "12.3 MB".
std::string bytes_text(uint64_t bytes);
/// One line: label, padding, value.
std::string labelled(const std::string& label, const std::string& value);

}  // namespace hone::engine
