#pragma once

// Sole owner of one POSIX file descriptor, and errno as an exception.

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace hone::data {

class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept;
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor();

  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  /// Closes and reports what a network file system may only say then. Throws IoError.
  void close(const std::filesystem::path& path);

 private:
  int fd_ = -1;
};

/// open(2), closed on exec. Throws InputError when the file is missing or a directory is opened
/// for reading, else IoError.
FileDescriptor open_file(const std::filesystem::path& path, int flags, unsigned mode = 0644);

/// Writes everything, through short writes and signals. Throws IoError (disk full, ...).
void write_all(const FileDescriptor& file, std::string_view content,
               const std::filesystem::path& path);

/// Up to `size` bytes; 0 at the end of the file. Throws IoError.
std::size_t read_some(const FileDescriptor& file, char* buffer, std::size_t size,
                      const std::filesystem::path& path);

/// fsync(2). Throws IoError.
void sync_file(const FileDescriptor& file, const std::filesystem::path& path);

/// Makes a created, renamed or removed name in `directory` durable. Throws IoError.
void sync_directory(const std::filesystem::path& directory);

/// Throws IoError "<path>: <operation>: expected success, got <errno's text>".
[[noreturn]] void throw_errno(const std::filesystem::path& path, const std::string& operation);

}  // namespace hone::data
