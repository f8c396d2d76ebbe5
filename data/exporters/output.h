#pragma once

// Text on its way to a file: a buffer, and how JSON and CSV write a text.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "data/file_descriptor.h"

namespace hone::data {

class Output {
 public:
  Output(const FileDescriptor& file, std::filesystem::path path);

  Output& raw(std::string_view text) {
    buffer_ += text;
    return *this;
  }
  /// A JSON string with its quotes; bytes that are not UTF-8 become U+FFFD.
  Output& json(std::string_view text);
  /// A CSV cell (RFC 4180). A text that a spreadsheet would take for a formula gets an apostrophe
  /// before it.
  Output& cell(std::string_view text);
  void end_line(std::string_view end = "\n");
  /// A line that is not counted.
  void header(std::string_view line) { buffer_ += line; }

  /// Throws IoError.
  void flush();
  uint64_t lines() const { return lines_; }

 private:
  const FileDescriptor& file_;
  std::filesystem::path path_;
  std::string buffer_;
  uint64_t lines_ = 0;
};

}  // namespace hone::data
