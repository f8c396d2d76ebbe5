// Bytes as a safetensors file: its header gives an InputError or tensors that lie inside the file.

#include <cstddef>
#include <cstdint>
#include <string>

#include "data/error.h"
#include "engine/io/safetensors_header.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace engine = hone::engine;
  try {
    const std::string_view file(reinterpret_cast<const char*>(data), size);
    uint64_t data_bytes = 0;
    const std::string_view header = engine::safetensors_header(file, "fuzz", &data_bytes);
    uint64_t held = 0;
    for (const engine::HeaderEntry& entry :
         engine::parse_safetensors_header(header, data_bytes, "fuzz")) {
      if (entry.begin > entry.end || entry.end > data_bytes) __builtin_trap();
      uint64_t bytes = 0;
      const size_t element = engine::safetensors_dtype_bytes(entry.dtype);
      if (!engine::safetensors_tensor_bytes(entry.shape, element, &bytes) ||
          bytes != entry.end - entry.begin) {
        __builtin_trap();
      }
      held += bytes;
    }
    if (held != data_bytes) __builtin_trap();
  } catch (const hone::data::InputError& error) {
    if (std::string(error.what()).find('\n') != std::string::npos) __builtin_trap();
  }
  return 0;
}
