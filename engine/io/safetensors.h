#pragma once

// The safetensors format (8-byte little-endian header length, JSON header, raw tensors), read by
// mmap and written whole. Torch-free.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace hone::data {
class Sha256;
}

namespace hone::engine {

struct StoredTensor {
  std::string dtype;  // "F32", "BF16", "F16", "F64", "I64", ...
  std::vector<int64_t> shape;
  const std::byte* bytes = nullptr;  // into the mapping
  size_t size = 0;                   // bytes
  std::string file;                  // for errors
};

/// One file, or a directory with model.safetensors or model.safetensors.index.json. Every offset,
/// shape and dtype is checked against the file before use; errors are data::InputError naming file
/// and tensor.
class Safetensors {
 public:
  static Safetensors open(const std::filesystem::path& path);
  Safetensors(Safetensors&&) noexcept;
  Safetensors& operator=(Safetensors&&) noexcept;
  ~Safetensors();
  const std::map<std::string, StoredTensor>& tensors() const { return tensors_; }
  /// Throws InputError when absent.
  const StoredTensor& at(const std::string& name) const;
  /// Gives the memory of a tensor's pages back to the system; reading it again reads the file
  /// again. So a model can be read with one copy of it in memory.
  static void release(const StoredTensor& tensor);

 private:
  Safetensors();
  struct Mapping;
  std::vector<std::unique_ptr<Mapping>> files_;
  std::map<std::string, StoredTensor> tensors_;
  std::string where_;
};

struct TensorToStore {
  std::string name, dtype;
  std::vector<int64_t> shape;
  const void* bytes = nullptr;
  size_t size = 0;
};

/// Writes one file, tensor by tensor, so that only one of them has to be in memory. Atomic:
/// nothing is at `path` before finish().
class SafetensorsWriter {
 public:
  /// Tensors lie in the file in the order given; their `bytes` are not used. `digest`, when given,
  /// takes every byte of the file.
  SafetensorsWriter(const std::filesystem::path& path, const std::vector<TensorToStore>& tensors,
                    const std::map<std::string, std::string>& metadata,
                    data::Sha256* digest = nullptr);
  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;
  /// The next bytes of the tensors' data.
  void write(const void* bytes, size_t size);
  /// Throws InputError when more or fewer bytes than declared were written.
  void finish();

 private:
  class File;
  std::unique_ptr<File> file_;
  std::filesystem::path path_;
  uint64_t expected_ = 0, written_ = 0;
};

/// Atomic (temporary file, fsync, rename). Tensors are written in the order given.
void write_safetensors(const std::filesystem::path& path, const std::vector<TensorToStore>& tensors,
                       const std::map<std::string, std::string>& metadata);

}  // namespace hone::engine
