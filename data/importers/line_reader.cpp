#include "data/importers/line_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "data/error.h"
#include "data/file_descriptor.h"
#include "data/sha256.h"

namespace hone::data {
namespace {

FileDescriptor open_input(const std::filesystem::path& path) {
  if (path == "-") return FileDescriptor(::dup(STDIN_FILENO));
  try {
    return open_file(path, O_RDONLY);
  } catch (const IoError& error) {  // a file that may not be read is the caller's to change
    throw InputError(error.what());
  }
}

}  // namespace

struct LineReader::Stream {
  gzFile file = nullptr;
  Sha256 digest;
  ~Stream() {
    if (file != nullptr) gzclose_r(file);
  }
};

LineReader::LineReader(const std::filesystem::path& path, uint64_t max_line_bytes)
    : stream_(std::make_unique<Stream>()), name_(path.string()), max_line_bytes_(max_line_bytes) {
  const FileDescriptor file = open_input(path);
  struct stat status {};
  if (::fstat(file.get(), &status) == 0 && S_ISREG(status.st_mode)) {
    bytes_total_ = static_cast<uint64_t>(status.st_size);
  }
  constexpr uint64_t kLeast = 1 << 12, kMost = 1 << 18;
  const uint64_t buffered = bytes_total_ == 0 ? kMost : std::clamp(bytes_total_, kLeast, kMost);
  buffer_.resize(buffered);
  const int fd = ::dup(file.get());
  stream_->file = fd < 0 ? nullptr : gzdopen(fd, "rb");
  if (stream_->file == nullptr) throw_errno(path, "open");
  gzbuffer(stream_->file, static_cast<unsigned>(buffered));
}

LineReader::~LineReader() = default;

bool LineReader::fill() {
  const int got = gzread(stream_->file, buffer_.data(), static_cast<unsigned>(buffer_.size()));
  int code = Z_OK;
  const char* message = gzerror(stream_->file, &code);
  if (code == Z_ERRNO) {
    const int reason = errno;
    if (reason == EINTR && stop_) stop_();
    errno = reason;
    throw_errno(name_, "read");
  }
  if (got < 0 || (got == 0 && code == Z_BUF_ERROR)) {
    throw InputError(name_, "read", "whole gzip data",
                     code == Z_BUF_ERROR ? "a truncated file" : std::string(message));
  }
  at_ = 0;
  end_ = static_cast<std::size_t>(got);
  stream_->digest.update(buffer_.data(), end_);
  return got > 0;
}

void LineReader::append(const char* bytes, std::size_t size) {
  const uint64_t room = max_line_bytes_ - line_.size();
  if (size > room) too_long_ = true;
  line_.append(bytes, std::min<uint64_t>(size, room));
}

bool LineReader::next() {
  line_.clear();
  too_long_ = false;
  if (at_ == end_ && !fill()) return false;
  ++number_;
  do {
    const char* start = buffer_.data() + at_;
    const void* newline = std::memchr(start, '\n', end_ - at_);
    const std::size_t length =
        newline ? static_cast<std::size_t>(static_cast<const char*>(newline) - start) : end_ - at_;
    append(start, length);
    at_ += length;
    if (newline != nullptr) {
      ++at_;
      break;
    }
  } while (fill());
  if (line_.ends_with('\r')) line_.pop_back();
  if (number_ == 1 && line_.starts_with("\xEF\xBB\xBF")) line_.erase(0, 3);
  return true;
}

/// Past white space, a byte order mark at the beginning, and the commas of an array.
bool LineReader::skip_to_value() {
  for (;;) {
    if (at_ == end_ && !fill()) return false;
    const char c = buffer_[at_];
    const bool mark = json_ == Json::kUnknown && (c == '\xEF' || c == '\xBB' || c == '\xBF');
    const bool comma = json_ == Json::kArray && c == ',';
    if (c != ' ' && c != '\t' && c != '\r' && c != '\n' && !comma && !mark) return true;
    ++at_;
  }
}

bool LineReader::next_json() {
  if (json_ == Json::kUnknown) {
    if (!skip_to_value()) return false;
    json_ = buffer_[at_] == '[' ? Json::kArray : Json::kLines;
    if (json_ == Json::kArray) ++at_;
  }
  if (json_ == Json::kLines) return next();
  if (json_ == Json::kEnd) return false;
  const auto require_more = [&](bool more) {
    if (!more) throw InputError(name_, "read", "a JSON array with its end", "a truncated file");
  };
  require_more(skip_to_value());
  if (buffer_[at_] == ']') {
    json_ = Json::kEnd;
    ++at_;
    if (skip_to_value()) throw InputError(name_, "read", "nothing after the JSON array", "more");
    return false;
  }
  line_.clear();
  too_long_ = false;
  ++number_;
  int64_t depth = 0;
  bool in_string = false, escaped = false;
  for (;;) {
    std::size_t i = at_;
    bool ended = false;
    for (; i < end_; ++i) {
      const char c = buffer_[i];
      if (in_string) {
        if (escaped) {
          escaped = false;
        } else if (c == '\\') {
          escaped = true;
        } else if (c == '"') {
          in_string = false;
        }
      } else if (c == '"') {
        in_string = true;
      } else if (c == '[' || c == '{') {
        ++depth;
      } else if ((c == ',' || c == ']') && depth == 0) {
        ended = true;  // the character stays for the next call
        break;
      } else if (c == ']' || c == '}') {
        --depth;
      }
    }
    append(buffer_.data() + at_, i - at_);
    at_ = i;
    if (ended) return true;
    require_more(fill());
  }
}

uint64_t LineReader::bytes_read() const {
  const auto offset = gzoffset(stream_->file);
  return offset < 0 ? 0 : static_cast<uint64_t>(offset);
}

std::string LineReader::digest() { return stream_->digest.hex(); }

}  // namespace hone::data
