#include "engine/report/html.h"

#include <cmath>
#include <cstdint>
#include <cstdio>

namespace hone::engine::report {
namespace {

// Length of the well-formed UTF-8 sequence at `at` (RFC 3629), 0 when there is none.
size_t utf8_length(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) {
    return i < text.size() ? static_cast<uint8_t>(text[i]) : uint8_t{0};
  };
  const uint8_t lead = byte(at);
  const size_t length = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (length == 0 || lead > 0xF4) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return 0;
  }
  const uint8_t second = byte(at + 1);
  const bool overlong = (lead == 0xE0 && second < 0xA0) || (lead == 0xF0 && second < 0x90);
  const bool outside = (lead == 0xED && second > 0x9F) || (lead == 0xF4 && second > 0x8F);
  return overlong || outside ? 0 : length;
}

std::string thousands(const char* digits) {
  std::string out(digits);
  const size_t first = out[0] == '-' ? 1 : 0;
  for (size_t i = out.size(); i > first + 3;) out.insert(i -= 3, ",");
  return out;
}

}  // namespace

std::string escape(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  for (size_t i = 0; i < text.size();) {
    const size_t length = utf8_length(text, i);
    const char c = text[i];
    const auto byte = static_cast<uint8_t>(c);
    const bool c1 = length == 2 && byte == 0xC2 && static_cast<uint8_t>(text[i + 1]) < 0xA0;
    const bool c0 = (byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7F;
    if (length == 0 || c0 || c1) {
      out += "\uFFFD";
    } else if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else if (c == '\'') {
      out += "&#39;";
    } else {
      out += text.substr(i, length);
    }
    i += length == 0 ? 1 : length;
  }
  return out;
}

std::string figure(std::optional<double> value) {
  if (!value || !std::isfinite(*value)) return "–";
  if (*value == 0) return "0";
  const double size = std::abs(*value);
  char out[64];
  const bool whole = size < 1e15 && *value == std::floor(*value);
  if (size >= 1e15 || (size > 0 && size < 5e-4)) {
    std::snprintf(out, sizeof out, "%.1e", *value);
  } else if (size >= 100 || (whole && size > 1)) {
    std::snprintf(out, sizeof out, "%.0f", *value);
  } else if (size >= 10) {
    std::snprintf(out, sizeof out, "%.1f", *value);
  } else {
    std::snprintf(out, sizeof out, size >= 1 ? "%.2f" : "%.3f", *value);
  }
  std::string text = size < 1e15 && size >= 1000 ? thousands(out) : std::string(out);
  if (text[0] == '-') text.replace(0, 1, "−");
  return text;
}

std::string signed_figure(double value) {
  const std::string text = figure(value);
  return value > 0 ? "+" + text : text;
}

std::string counted(double count, const std::string& noun) {
  return count == 1 ? "1 " + noun : figure(count) + " " + noun + "s";
}

std::string percent(double share) {
  char out[64];
  std::snprintf(out, sizeof out, "%.1f\u00A0%%", 100 * share);
  return out;
}

std::string duration_text(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e12) return "–";
  char out[64];
  if (seconds < 59.95) {
    std::snprintf(out, sizeof out, seconds < 9.95 ? "%.1f s" : "%.0f s", seconds);
    return out;
  }
  const long whole = std::lround(seconds);
  if (whole < 3600) {
    std::snprintf(out, sizeof out, "%ld min %02ld s", whole / 60, whole % 60);
  } else {
    std::snprintf(out, sizeof out, "%ld h %02ld min", whole / 3600, whole / 60 % 60);
  }
  return out;
}

std::string folded(const std::string& summary, const std::string& body) {
  return "<details><summary>" + escape(summary) + "</summary>" + body + "</details>\n";
}

}  // namespace hone::engine::report
