#include "data/plain_text.h"

#include <array>
#include <cstdio>

#include "data/error.h"
#include "data/utf8.h"

namespace hone::data {
namespace {

struct Found {
  std::size_t at = std::string_view::npos, bytes = 0;
  unsigned character = 0;
};

/// The first character at or after `from` that may not stand there.
Found find_control(std::string_view text, LineBreaks breaks, std::size_t from = 0) {
  const bool lines = breaks == LineBreaks::kAllowed;
  for (std::size_t i = from; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte == 0x7F || (byte < 0x20 && !(lines && (byte == '\t' || byte == '\n' || byte == '\r'))))
      return {i, 1, byte};
    // U+0080 to U+009F are C2 80 to C2 9F.
    if (byte == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0)
      return {i, 2, static_cast<unsigned char>(text[i + 1])};
    const std::string_view rest = text.substr(i);
    if (!lines && (rest.starts_with("\u2028") || rest.starts_with("\u2029")))
      return {i, 3, rest[2] == '\xA8' ? 0x2028U : 0x2029U};
  }
  return {};
}

}  // namespace

void check_plain_text(std::string_view text, LineBreaks breaks, const std::string& where,
                      const std::string& what) {
  if (const std::size_t at = find_invalid_utf8(text); at != std::string_view::npos) {
    throw InputError(where, what, "UTF-8", "another byte at " + std::to_string(at));
  }
  const Found found = find_control(text, breaks);
  if (found.at == std::string_view::npos) return;
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "U+%04X", found.character);
  throw InputError(where, what,
                   breaks == LineBreaks::kAllowed
                       ? "a text without control characters (but tab and line break)"
                       : "one line without control characters",
                   std::string(name.data()) + " at byte " + std::to_string(found.at));
}

std::string without_control_characters(std::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  for (std::size_t at = 0;;) {
    const Found found = find_control(text, LineBreaks::kAllowed, at);
    clean += text.substr(at, found.at - at);
    if (found.at == std::string_view::npos) return clean;
    clean += "\uFFFD";
    at = found.at + found.bytes;
  }
}

}  // namespace hone::data
