#include "data/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>

#include "data/error.h"
#include "data/file_descriptor.h"

namespace hone::data {
namespace {

// Hidden, and unlike any name of ours, so that a file left by a killed process is recognised.
std::filesystem::path temporary_beside(const std::filesystem::path& path) {
  static std::atomic<uint64_t> counter{0};
  std::string name = ".";
  name += path.filename().string();
  name += ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(counter++);
  return path.parent_path() / name;
}

}  // namespace

std::filesystem::path write_temporary_file(const std::filesystem::path& path,
                                           std::string_view content) {
  const auto temporary = temporary_beside(path);
  FileDescriptor file = open_file(temporary, O_WRONLY | O_CREAT | O_EXCL);
  try {
    write_all(file, content, temporary);
    sync_file(file, temporary);
    file.close(temporary);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  return temporary;
}

void rename_file(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) throw_errno(to, "rename");
}

void write_file_atomically(const std::filesystem::path& path, std::string_view content) {
  const auto temporary = write_temporary_file(path, content);
  try {
    rename_file(temporary, path);
    sync_directory(path.parent_path());
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

bool is_stream(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  return std::filesystem::exists(status) && !std::filesystem::is_regular_file(status) &&
         !std::filesystem::is_directory(status);
}

void publish_file(const std::filesystem::path& temporary, const std::filesystem::path& path) {
  if (is_stream(path)) throw IoError(path.string(), "replace", "a file", "a device or pipe");
  {
    const FileDescriptor file = open_file(temporary, O_RDONLY);
    sync_file(file, temporary);
  }
  rename_file(temporary, path);
  sync_directory(path.parent_path());
}

std::string read_file(const std::filesystem::path& path) {
  const FileDescriptor file = open_file(path, O_RDONLY);
  struct stat status {};
  std::string content;
  if (::fstat(file.get(), &status) == 0 && S_ISREG(status.st_mode)) {
    content.reserve(static_cast<std::size_t>(status.st_size) + 1);
  }
  char buffer[1 << 16];
  while (const std::size_t got = read_some(file, buffer, sizeof buffer, path)) {
    content.append(buffer, got);
  }
  return content;
}

}  // namespace hone::data
