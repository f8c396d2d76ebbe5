#include "data/exporters/output.h"

#include <array>
#include <nlohmann/json.hpp>

#include "data/utf8.h"

namespace hone::data {
namespace {

constexpr std::size_t kBuffered = 1 << 20;

constexpr std::array<bool, 256> json_specials() {
  std::array<bool, 256> special{};
  for (int i = 0; i < 0x20; ++i) special[static_cast<std::size_t>(i)] = true;
  special['"'] = special['\\'] = true;
  return special;
}
constexpr std::array<bool, 256> kJsonSpecial = json_specials();

void append_escape(char c, std::string& text) {
  static constexpr char kDigits[] = "0123456789abcdef";
  switch (c) {
    case '"':
      text += "\\\"";
      return;
    case '\\':
      text += "\\\\";
      return;
    case '\n':
      text += "\\n";
      return;
    case '\r':
      text += "\\r";
      return;
    case '\t':
      text += "\\t";
      return;
    case '\b':
      text += "\\b";
      return;
    case '\f':
      text += "\\f";
      return;
    default:
      text += "\\u00";
      text += kDigits[static_cast<unsigned char>(c) >> 4];
      text += kDigits[static_cast<unsigned char>(c) & 15];
  }
}

/// What spreadsheets begin a formula with; the last four are the full-width forms that some take.
bool looks_like_formula(std::string_view text) {
  if (text.empty()) return false;
  if (std::string_view("=+-@\t\r\n|%").find(text.front()) != std::string_view::npos) return true;
  for (const std::string_view wide :
       {"\xEF\xBC\x9D", "\xEF\xBC\x8B", "\xEF\xBC\x8D", "\xEF\xBC\xA0"}) {
    if (text.starts_with(wide)) return true;
  }
  return false;
}

}  // namespace

Output::Output(const FileDescriptor& file, std::filesystem::path path)
    : file_(file), path_(std::move(path)) {
  buffer_.reserve(kBuffered + kBuffered / 4);
}

Output& Output::json(std::string_view text) {
  if (find_invalid_utf8(text) != std::string_view::npos) {
    return raw(nlohmann::json(std::string(text))
                   .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  }
  buffer_ += '"';
  std::size_t start = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (!kJsonSpecial[static_cast<unsigned char>(text[i])]) continue;
    buffer_.append(text.data() + start, i - start);
    append_escape(text[i], buffer_);
    start = i + 1;
  }
  buffer_.append(text.data() + start, text.size() - start);
  buffer_ += '"';
  return *this;
}

Output& Output::cell(std::string_view text) {
  const bool formula = looks_like_formula(text);
  const bool quoted = formula || text.find_first_of(",;\"\r\n\t") != std::string_view::npos ||
                      text.starts_with(' ') || text.ends_with(' ');
  if (!quoted) return raw(text);
  buffer_ += '"';
  if (formula) buffer_ += '\'';
  for (const char c : text) {
    if (c == '"') buffer_ += '"';
    buffer_ += c;
  }
  buffer_ += '"';
  return *this;
}

void Output::end_line(std::string_view end) {
  buffer_ += end;
  ++lines_;
  if (buffer_.size() >= kBuffered) flush();
}

void Output::flush() {
  write_all(file_, buffer_, path_);
  buffer_.clear();
}

}  // namespace hone::data
