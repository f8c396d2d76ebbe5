#pragma once

// Text and numbers as HTML. Whatever a model or a person wrote passes through escape() and is only
// ever a text node or a quoted attribute value.

#include <optional>
#include <string>
#include <string_view>

namespace hone::engine::report {

/// HTML text: & < > " ' as entities; control characters and bytes that are not UTF-8 as U+FFFD.
std::string escape(std::string_view text);

/// A figure for people: "0.604", "2.97", "12.3", "1,234", "2.1e-05", "−0.120"; "–" when absent or
/// not finite.
std::string figure(std::optional<double> value);
/// The same with its sign: "+0.287".
std::string signed_figure(double value);
/// "1 person", "1,204 persons".
std::string counted(double count, const std::string& noun);
/// "73.4 %"
std::string percent(double share);
/// "41 s", "2 min 35 s", "1 h 02 min"
std::string duration_text(double seconds);

/// <details> with a summary line; `body` is HTML.
std::string folded(const std::string& summary, const std::string& body);

}  // namespace hone::engine::report
