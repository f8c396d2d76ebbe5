// Bytes as a config.json: reading gives an InputError or a config that is written and read back the
// same.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "data/error.h"
#include "engine/models/model_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using hone::engine::ModelConfig;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const ModelConfig config = ModelConfig::from_json(text, "config.json");
    for (const int64_t layer : {int64_t{0}, config.layers - 1}) {
      if (config.window(layer) < 0 || !std::isfinite(config.attention_scale(layer))) {
        __builtin_trap();
      }
    }
    const std::string written = config.to_json(false);
    if (ModelConfig::from_json(written, "config.json").to_json(false) != written) __builtin_trap();
    config.to_json(true);
  } catch (const hone::data::InputError& error) {
    if (std::string(error.what()).find('\n') != std::string::npos) __builtin_trap();
  }
  return 0;
}
