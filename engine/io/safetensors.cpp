#include "engine/io/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "data/error.h"
#include "engine/io/json.h"
#include "engine/io/safetensors_header.h"

namespace hone::engine {

using data::InputError;
using data::IoError;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

constexpr size_t kLengthBytes = 8;

}  // namespace

// Sole owner of one read-only mapping of a whole file.
struct Safetensors::Mapping {
  const std::byte* bytes = nullptr;
  size_t size = 0;

  explicit Mapping(const fs::path& path) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) {
      throw InputError(path.string(), "safetensors file", "a readable file", std::strerror(errno));
    }
    struct stat status {};
    const bool known = ::fstat(file, &status) == 0;
    if (!known || !S_ISREG(status.st_mode) || status.st_size < off_t{kLengthBytes}) {
      ::close(file);
      throw InputError(path.string(), "safetensors file", "a regular file of at least 8 bytes",
                       known && S_ISREG(status.st_mode) ? std::to_string(status.st_size) + " bytes"
                                                        : "something else");
    }
    size = static_cast<size_t>(status.st_size);
    void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
    const int error = errno;
    ::close(file);
    if (address == MAP_FAILED) {
      throw IoError(path.string() + ": mmap of " + std::to_string(size) +
                    " bytes failed: " + std::strerror(error));
    }
    bytes = static_cast<const std::byte*>(address);
  }
  ~Mapping() { ::munmap(const_cast<std::byte*>(bytes), size); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
};

namespace {

using Tensors = std::map<std::string, StoredTensor>;

Tensors tensors_of(const std::byte* bytes, size_t size, const std::string& file) {
  uint64_t data_bytes = 0;
  const std::string_view header =
      safetensors_header({reinterpret_cast<const char*>(bytes), size}, file, &data_bytes);
  const std::byte* data = bytes + (size - data_bytes);
  Tensors tensors;
  for (HeaderEntry& entry : parse_safetensors_header(header, data_bytes, file)) {
    tensors[entry.name] = {std::move(entry.dtype), std::move(entry.shape), data + entry.begin,
                           entry.end - entry.begin, file};
  }
  return tensors;
}

// weight_map of an index: tensor name -> file name beside the index.
std::map<std::string, std::string> read_index(std::string_view text, const std::string& where) {
  const json index = parse_json(text, where);
  const JsonField weight_map = JsonField(index, where).at("weight_map");
  weight_map.require_object();
  std::map<std::string, std::string> files;
  for (const auto& [tensor, value] : weight_map.value().items()) {
    const fs::path file = value.is_string() ? value.get<std::string>() : std::string();
    // A plain name cannot leave the directory.
    if (file.empty() || file != file.filename() || file == "." || file == "..") {
      throw InputError(where, "weight_map entry " + shown_json(tensor),
                       "a file name in the same directory", shown_json(value));
    }
    files[tensor] = file.string();
  }
  return files;
}

fs::path find_file(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return path;
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"}) {
    if (fs::exists(path / name, ignored)) return path / name;
  }
  throw InputError(path.string(), "model directory",
                   "model.safetensors or model.safetensors.index.json", "neither");
}

}  // namespace

Safetensors::Safetensors() = default;
Safetensors::Safetensors(Safetensors&&) noexcept = default;
Safetensors& Safetensors::operator=(Safetensors&&) noexcept = default;
Safetensors::~Safetensors() = default;

Safetensors Safetensors::open(const fs::path& path) {
  const fs::path file = find_file(path);
  Safetensors result;
  result.where_ = file.string();
  if (file.extension() != ".json") {
    const auto& mapping = result.files_.emplace_back(std::make_unique<Mapping>(file));
    result.tensors_ = tensors_of(mapping->bytes, mapping->size, file.string());
    return result;
  }
  std::map<std::string, std::string> files;
  {
    const Mapping text(file);
    files = read_index({reinterpret_cast<const char*>(text.bytes), text.size}, file.string());
  }
  std::map<std::string, Tensors> shards;
  for (const auto& [tensor, name] : files) {
    auto [shard, added] = shards.try_emplace(name);
    if (added) {
      const fs::path shard_path = file.parent_path() / name;
      const auto& mapping = result.files_.emplace_back(std::make_unique<Mapping>(shard_path));
      shard->second = tensors_of(mapping->bytes, mapping->size, shard_path.string());
    }
    auto found = shard->second.find(tensor);
    if (found == shard->second.end()) {
      throw InputError(file.string(), "tensor '" + tensor + "'", "to be in " + name, "no such");
    }
    result.tensors_[tensor] = std::move(found->second);
    shard->second.erase(found);
  }
  // What the index does not name there might be meant to replace what it names elsewhere.
  for (const auto& [name, rest] : shards) {
    if (!rest.empty()) {
      throw InputError(rest.begin()->second.file, "tensor '" + rest.begin()->first + "'",
                       "to be listed for " + name + " in " + file.filename().string(), "no entry");
    }
  }
  return result;
}

const StoredTensor& Safetensors::at(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    throw InputError(where_, "tensor '" + name + "'", "to be present",
                     "only " + std::to_string(tensors_.size()) + " other tensors");
  }
  return found->second;
}

void Safetensors::release(const StoredTensor& tensor) {
  static const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  // Whole pages only: a neighbour may be in use on the others.
  const auto begin = (reinterpret_cast<uintptr_t>(tensor.bytes) + page - 1) / page * page;
  const auto end = (reinterpret_cast<uintptr_t>(tensor.bytes) + tensor.size) / page * page;
  if (end > begin) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace hone::engine
