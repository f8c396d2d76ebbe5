#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/sha256.h"
#include "engine/io/json.h"
#include "engine/io/safetensors.h"
#include "engine/io/safetensors_header.h"

namespace hone::engine {
namespace {

using data::InputError;
using data::IoError;
namespace fs = std::filesystem;

std::string header_of(const std::vector<TensorToStore>& tensors,
                      const std::map<std::string, std::string>& metadata,
                      const std::string& where) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::unordered_set<std::string_view> names;
  uint64_t offset = 0;
  for (const TensorToStore& tensor : tensors) {
    const std::string at = where + ": tensor '" + tensor.name + "'";
    if (tensor.name == "__metadata__" || !names.insert(tensor.name).second) {
      throw InputError(at, "name", "to be unique and not __metadata__", "it again");
    }
    uint64_t bytes = 0;
    const size_t element_bytes = safetensors_dtype_bytes(tensor.dtype);
    if (element_bytes == 0 || !safetensors_tensor_bytes(tensor.shape, element_bytes, &bytes) ||
        bytes != tensor.size) {
      throw InputError(at, "size", "the bytes of its dtype and shape",
                       tensor.dtype + " with " + std::to_string(tensor.size) + " bytes");
    }
    header[tensor.name] = {{"dtype", tensor.dtype},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  try {
    std::string text = header.dump();
    text.append((8 - text.size() % 8) % 8, ' ');  // tensor data starts at a multiple of 8
    return text;
  } catch (const nlohmann::json::exception& error) {
    throw InputError(where, "tensor names and metadata", "valid UTF-8", shown_error(error));
  }
}

}  // namespace

// A file that disappears unless it is finished.
class SafetensorsWriter::File {
 public:
  File(fs::path path, data::Sha256* digest) : path_(std::move(path)), digest_(digest) {
    file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file_ < 0) fail("open");
  }
  ~File() {
    if (file_ >= 0) ::close(file_);
    if (!published_) ::unlink(path_.c_str());
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  void write(const void* bytes, size_t size) {
    if (digest_) digest_->update(bytes, size);
    const char* next = static_cast<const char*>(bytes);
    while (size > 0) {
      const ssize_t written = ::write(file_, next, size);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) fail("write");
      next += written;
      size -= static_cast<size_t>(written);
    }
  }
  void publish(const fs::path& target) {
    const int file = std::exchange(file_, -1);
    if (::close(file) != 0) fail("close");
    data::publish_file(path_, target);
    published_ = true;
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    throw IoError(path_.string() + ": " + what + " failed: " + std::strerror(errno));
  }

  fs::path path_;
  data::Sha256* digest_;
  int file_ = -1;
  bool published_ = false;
};

SafetensorsWriter::SafetensorsWriter(const fs::path& path,
                                     const std::vector<TensorToStore>& tensors,
                                     const std::map<std::string, std::string>& metadata,
                                     data::Sha256* digest)
    : path_(path) {
  const std::string header = header_of(tensors, metadata, path.string());
  char length[8];
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(uint64_t{header.size()} >> 8 * i);
  fs::path temporary = path;
  temporary += ".tmp-" + std::to_string(::getpid());
  file_ = std::make_unique<File>(temporary, digest);
  file_->write(length, sizeof length);
  file_->write(header.data(), header.size());
  for (const TensorToStore& tensor : tensors) expected_ += tensor.size;
}

SafetensorsWriter::~SafetensorsWriter() = default;

void SafetensorsWriter::write(const void* bytes, size_t size) {
  file_->write(bytes, size);
  written_ += size;
}

void SafetensorsWriter::finish() {
  if (written_ != expected_) {
    throw InputError(path_.string(), "tensor data", std::to_string(expected_) + " bytes",
                     std::to_string(written_));
  }
  file_->publish(path_);
}

void write_safetensors(const fs::path& path, const std::vector<TensorToStore>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  SafetensorsWriter writer(path, tensors, metadata);
  for (const TensorToStore& tensor : tensors) writer.write(tensor.bytes, tensor.size);
  writer.finish();
}

}  // namespace hone::engine
