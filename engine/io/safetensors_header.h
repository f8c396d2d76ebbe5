#pragma once

// The JSON header of a safetensors file, checked in full before any tensor is touched.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hone::engine {

/// Headers above this are refused, as the format's own implementation does.
constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;

struct HeaderEntry {
  std::string name, dtype;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  // bytes from the first byte after the header
};

/// Bytes of one element; 0 when the format has no such dtype (or Hone does not read it).
size_t safetensors_dtype_bytes(std::string_view dtype);

/// Bytes of a tensor of `shape`; false when a size is negative or the product overflows int64.
bool safetensors_tensor_bytes(const std::vector<int64_t>& shape, size_t element_bytes,
                              uint64_t* bytes);

/// The JSON header inside a whole file, and how many bytes of data lie behind it. Throws
/// data::InputError naming `file` when the file is too short for what it says.
std::string_view safetensors_header(std::string_view bytes, const std::string& file,
                                    uint64_t* data_bytes);

/// Entries in the order of their data. The tensors must tile [0, data_bytes) without gap or
/// overlap, which is what the format demands. Throws data::InputError naming `file` and the tensor.
std::vector<HeaderEntry> parse_safetensors_header(std::string_view header, uint64_t data_bytes,
                                                  const std::string& file);

}  // namespace hone::engine
