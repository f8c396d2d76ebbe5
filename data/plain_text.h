#pragma once

// Text that people see on a page, in a terminal or in a table: no control characters in it. A NUL
// ends a text for C programs, an escape drives a terminal, a backspace hides what stood before it.

#include <string>
#include <string_view>

namespace hone::data {

enum class LineBreaks { kRefused, kAllowed };

/// Throws InputError "<where>: <what>: ..." for text that is no well-formed UTF-8 or holds a
/// control character (U+0000 to U+001F, U+007F to U+009F). With kAllowed, tab, line feed and
/// carriage return are none; a text of one line is without U+2028 and U+2029, too.
void check_plain_text(std::string_view text, LineBreaks breaks, const std::string& where,
                      const std::string& what);

/// The same text with U+FFFD for each control character but tab, line feed and carriage return:
/// for what a model wrote, of which nobody can ask another spelling. Well-formed UTF-8.
std::string without_control_characters(std::string_view text);

}  // namespace hone::data
