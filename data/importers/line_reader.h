#pragma once

// Lines of a text file, plain or gzip, one at a time.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace hone::data {

class LineReader {
 public:
  /// `path` "-" is standard input. Throws InputError when it is missing, unreadable or a directory.
  LineReader(const std::filesystem::path& path, uint64_t max_line_bytes);
  ~LineReader();

  /// Called when a signal ends the wait for a pipe; it throws what shall end the reading. What was
  /// read of the pipe is lost then, so that without it, or when it returns, next() throws IoError.
  void on_interrupt(std::function<void()> stop) { stop_ = std::move(stop); }

  /// The next line without its end (LF or CRLF) and without a byte order mark on the first; false
  /// at the end. Throws InputError when the compressed data is truncated or damaged, IoError when
  /// the file cannot be read on.
  bool next();
  /// The same for files of JSON values: the elements of one array, wherever its lines end, or else
  /// lines. number() then counts elements. Throws InputError also when the array has no end.
  bool next_json();
  std::string_view text() const { return line_; }
  uint64_t number() const { return number_; }  // from 1
  /// The line was longer than max_line_bytes; text() is then its beginning.
  bool too_long() const { return too_long_; }

  /// Bytes of the file consumed (compressed ones, if so), and in all (0 = unknown).
  uint64_t bytes_read() const;
  uint64_t bytes_total() const { return bytes_total_; }
  /// SHA-256 of the uncompressed content; at the end only.
  std::string digest();

 private:
  struct Stream;
  bool fill();
  bool skip_to_value();
  void append(const char* bytes, std::size_t size);
  std::unique_ptr<Stream> stream_;
  std::string name_;
  uint64_t max_line_bytes_, bytes_total_ = 0, number_ = 0;
  std::string buffer_, line_;
  std::size_t at_ = 0, end_ = 0;
  bool too_long_ = false;
  std::function<void()> stop_;
  enum class Json { kUnknown, kLines, kArray, kEnd } json_ = Json::kUnknown;
};

}  // namespace hone::data
