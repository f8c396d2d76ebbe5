#include "data/file_descriptor.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "data/error.h"

namespace hone::data {

FileDescriptor::FileDescriptor(FileDescriptor&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)) {}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}

void FileDescriptor::close(const std::filesystem::path& path) {
  const int fd = std::exchange(fd_, -1);
  if (fd >= 0 && ::close(fd) != 0 && errno != EINTR) throw_errno(path, "close");
}

void throw_errno(const std::filesystem::path& path, const std::string& operation) {
  throw IoError(path.string() + ": " + operation +
                " failed: " + std::generic_category().message(errno));
}

FileDescriptor open_file(const std::filesystem::path& path, int flags, unsigned mode) {
  int fd = -1;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  const bool reading = (flags & O_ACCMODE) == O_RDONLY && !(flags & O_DIRECTORY);
  if (fd < 0) {
    if (reading && (errno == ENOENT || errno == ENOTDIR)) {
      throw InputError(path.string(), "open", "an existing file", "no such file");
    }
    throw_errno(path, "open");
  }
  FileDescriptor file(fd);
  struct stat status {};
  if (reading && ::fstat(fd, &status) == 0 && S_ISDIR(status.st_mode)) {
    throw InputError(path.string(), "open", "a file", "a directory");
  }
  return file;
}

void write_all(const FileDescriptor& file, std::string_view content,
               const std::filesystem::path& path) {
  while (!content.empty()) {
    const ssize_t written = ::write(file.get(), content.data(), content.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      throw_errno(path, "write");
    }
    content.remove_prefix(static_cast<std::size_t>(written));
  }
}

std::size_t read_some(const FileDescriptor& file, char* buffer, std::size_t size,
                      const std::filesystem::path& path) {
  for (;;) {
    const ssize_t got = ::read(file.get(), buffer, size);
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) throw_errno(path, "read");
  }
}

void sync_file(const FileDescriptor& file, const std::filesystem::path& path) {
  if (::fsync(file.get()) != 0) throw_errno(path, "fsync");
}

void sync_directory(const std::filesystem::path& directory) {
  const auto path = directory.empty() ? std::filesystem::path(".") : directory;
  const FileDescriptor handle = open_file(path, O_RDONLY | O_DIRECTORY);
  // Some file systems have no fsync of directories and say EINVAL; their renames are durable
  // as they can be.
  if (::fsync(handle.get()) != 0 && errno != EINVAL) throw_errno(path, "fsync");
}

}  // namespace hone::data
