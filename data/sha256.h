#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace hone::data {

/// Streaming SHA-256 (OpenSSL). Lower-case hexadecimal digests.
class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&& other) noexcept;
  ~Sha256();
  void update(const void* bytes, std::size_t size);
  void update(std::string_view text) { update(text.data(), text.size()); }
  std::string hex();  // ends the stream

 private:
  void* context_;
};

std::string sha256_hex(std::string_view bytes);
std::string sha256_file(const std::filesystem::path& path);

}  // namespace hone::data
