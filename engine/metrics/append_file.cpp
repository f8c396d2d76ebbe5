#include "engine/metrics/append_file.h"

#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "data/error.h"

namespace hone::engine {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const std::string& what,
                       const std::string& expected, int error) {
  throw data::IoError(path.string(), what, expected, std::strerror(error));
}

}  // namespace

AppendFile::AppendFile(const std::filesystem::path& path) : path_(path) {
  do {
    descriptor_ = open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  } while (descriptor_ < 0 && errno == EINTR);
  if (descriptor_ < 0) fail(path_, "open", "a file to append to", errno);
}

AppendFile::~AppendFile() { close(descriptor_); }

void AppendFile::append(std::string_view record) {
  const off_t before = lseek(descriptor_, 0, SEEK_END);
  size_t written = 0;
  while (written < record.size()) {
    const ssize_t count = write(descriptor_, record.data() + written, record.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int error = count < 0 ? errno : ENOSPC;
      if (written > 0 && before >= 0 && ftruncate(descriptor_, before) != 0) {
        fail(path_, "cut a torn record", "success", errno);
      }
      fail(path_, "append", std::to_string(record.size()) + " bytes written", error);
    }
    written += static_cast<size_t>(count);
  }
}

void AppendFile::cut_after_last(char mark) {
  char block[4096];
  off_t end = lseek(descriptor_, 0, SEEK_END);
  const off_t size = end;
  while (end > 0) {
    const off_t begin = std::max<off_t>(0, end - static_cast<off_t>(sizeof block));
    const ssize_t count = pread(descriptor_, block, static_cast<size_t>(end - begin), begin);
    if (count <= 0) fail(path_, "read", "its last record", count < 0 ? errno : EIO);
    const std::string_view view(block, static_cast<size_t>(count));
    if (const size_t at = view.rfind(mark); at != std::string_view::npos) {
      end = begin + static_cast<off_t>(at) + 1;
      break;
    }
    end = begin;
  }
  if (end != size && ftruncate(descriptor_, end) != 0) {
    fail(path_, "cut a torn record", "success", errno);
  }
}

uint64_t AppendFile::size() const {
  const off_t end = lseek(descriptor_, 0, SEEK_END);
  if (end < 0) fail(path_, "seek", "success", errno);
  return static_cast<uint64_t>(end);
}

std::string AppendFile::tail(uint64_t offset) const {
  const uint64_t end = size();
  std::string text(end > offset ? end - offset : 0, '\0');
  size_t got = 0;
  while (got < text.size()) {
    const ssize_t count =
        pread(descriptor_, text.data() + got, text.size() - got, static_cast<off_t>(offset + got));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail(path_, "read", "its last records", count < 0 ? errno : EIO);
    got += static_cast<size_t>(count);
  }
  return text;
}

void AppendFile::cut_to(uint64_t bytes) {
  if (size() > bytes && ftruncate(descriptor_, static_cast<off_t>(bytes)) != 0) {
    fail(path_, "cut back", "success", errno);
  }
}

void AppendFile::sync() {
  if (fsync(descriptor_) != 0) fail(path_, "fsync", "success", errno);
}

}  // namespace hone::engine
