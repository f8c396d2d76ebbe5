#include "engine/runtime/terminal_line.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace hone::engine {
namespace {

bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

}  // namespace

TerminalLine::TerminalLine(std::FILE* stream) : stream_(stream) {
  const char* term = std::getenv("TERM");
  const char* no_color = std::getenv("NO_COLOR");
  terminal_ = isatty(fileno(stream)) == 1 && !(term && std::strcmp(term, "dumb") == 0);
  color_ = terminal_ && !(no_color && *no_color);
}

TerminalLine::~TerminalLine() { end(); }

int TerminalLine::width() const {
  winsize size = {};
  if (ioctl(fileno(stream_), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

void TerminalLine::draw(const std::string& text, int label_columns) {
  if (!terminal_) return;
  // The last column stays free: writing into it makes some terminals wrap.
  const std::string_view fits = cut_columns(text, std::max(1, width() - 1));
  const std::string_view label = cut_columns(fits, color_ ? label_columns : 0);
  std::string out = "\r\x1b[K";
  if (!label.empty()) out.append("\x1b[1m").append(label).append("\x1b[0m");
  out.append(fits.substr(label.size()));
  std::fwrite(out.data(), 1, out.size(), stream_);
  std::fflush(stream_);
  current_ = text;
  label_columns_ = label_columns;
}

void TerminalLine::print(const std::string& text) {
  std::string out = current_.empty() ? "" : "\r\x1b[K";
  out += printable(text);
  if (out.empty() || out.back() != '\n') out += '\n';
  std::fwrite(out.data(), 1, out.size(), stream_);
  std::fflush(stream_);
  if (!current_.empty()) draw(std::string(current_), label_columns_);
}

void TerminalLine::end() {
  if (current_.empty()) return;
  std::fputc('\n', stream_);
  std::fflush(stream_);
  current_.clear();
}

std::string printable(std::string_view text) {
  std::string out(text);
  for (size_t i = 0; i < out.size(); ++i) {
    const auto c = static_cast<unsigned char>(out[i]);
    const bool c0 = (c < 0x20 && c != '\n') || c == 0x7F;
    const bool c1 = c == 0xC2 && i + 1 < out.size() && is_continuation(out[i + 1]) &&
                    static_cast<unsigned char>(out[i + 1]) < 0xA0;
    if (c0 || c1) out[i] = ' ';
    if (c1) out[i + 1] = ' ';
  }
  return out;
}

int columns_of(std::string_view text) {
  return static_cast<int>(
      std::count_if(text.begin(), text.end(), [](char c) { return !is_continuation(c); }));
}

std::string_view cut_columns(std::string_view text, int columns) {
  size_t end = 0;
  for (; end < text.size(); ++end) {
    if (!is_continuation(text[end]) && columns-- <= 0) break;
  }
  return text.substr(0, end);
}

std::string clock_time(double seconds) {
  if (!(seconds >= 0) || seconds > 3.6e8) return "-:--";
  const long whole = std::lround(seconds);
  char out[32];
  if (whole >= 3600) {
    std::snprintf(out, sizeof out, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
  } else {
    std::snprintf(out, sizeof out, "%ld:%02ld", whole / 60, whole % 60);
  }
  return out;
}

std::string short_number(double value) {
  const double size = std::abs(value);
  char out[32];
  const bool plain = std::isfinite(value) && size >= 100 && size < 1e7;
  std::snprintf(out, sizeof out, plain ? "%.0f" : "%.3g", value);
  return out;
}

}  // namespace hone::engine
