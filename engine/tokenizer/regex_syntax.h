#pragma once

#include <string>
#include <string_view>

namespace hone::engine {

/// The same pattern for PCRE2: classes and properties spelled out as Oniguruma 6.9.10 understands
/// them. Throws data::InputError naming `where` for what the two read differently and what cannot
/// be spelled out (\h, \W inside a class, classes inside classes).
std::string to_pcre2_syntax(std::string_view pattern, const std::string& where);

/// A pattern that matches `text` literally.
std::string escaped_pattern(std::string_view text);

}  // namespace hone::engine
