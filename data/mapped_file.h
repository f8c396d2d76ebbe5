#pragma once

// A whole file as read-only memory.

#include <cstddef>
#include <filesystem>
#include <string_view>

namespace hone::data {

class MappedFile {
 public:
  MappedFile() = default;
  /// Throws InputError when the file is missing, IoError when it cannot be mapped.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::string_view bytes() const { return {data_, size_}; }

 private:
  const char* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace hone::data
