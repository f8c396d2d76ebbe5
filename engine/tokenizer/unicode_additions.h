#pragma once

#include <string>
#include <string_view>

namespace hone::engine {

/// Ranges, for the inside of a PCRE2 class, of the characters of a general category ("L", "Lu")
/// that Unicode 15 and 16 added. Debian's and Ubuntu's PCRE2 know Unicode 14; the `tokenizers`
/// package splits by Unicode 16, and ids depend on where text is split.
std::string unicode_additions(std::string_view category);

}  // namespace hone::engine
