#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace hone::engine {

/// Sole owner of a file opened for appending. A record is one write(2), so a killed process leaves
/// whole records; where the disk refuses part of one, the file is cut back to the record before.
class AppendFile {
 public:
  /// Throws data::IoError when the file cannot be opened.
  explicit AppendFile(const std::filesystem::path& path);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  /// All of `record` or none of it; throws data::IoError naming file and reason.
  void append(std::string_view record);
  /// Cuts what stands after the last `mark`: the rest of a record torn by a crash.
  void cut_after_last(char mark);
  uint64_t size() const;
  /// What stands from `offset` on. Throws data::IoError.
  std::string tail(uint64_t offset) const;
  /// Cuts the file to `size` bytes when it is longer.
  void cut_to(uint64_t size);
  /// fsync(2).
  void sync();
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

}  // namespace hone::engine
