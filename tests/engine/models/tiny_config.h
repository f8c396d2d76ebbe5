#pragma once

#include <ATen/ATen.h>

#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "engine/models/causal_lm.h"

namespace hone::test {

/// Small sizes that differ from each other, so that a mixed-up dimension cannot pass.
inline engine::ModelConfig tiny_config() {
  engine::ModelConfig config;
  config.vocab_size = 23;
  config.hidden_size = 12;
  config.intermediate_size = 20;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 6;
  config.max_positions = 64;
  config.initializer_range = 0.3;  // large enough that a wrong term shows
  config.bos_id = 1;
  config.eos_id = 2;
  config.pad_id = 0;
  config.eos_ids = {2};
  return config;
}

/// tiny_config() in the shape of another family.
inline engine::ModelConfig tiny_config(const std::string& family) {
  engine::ModelConfig config = tiny_config();
  config.family = family;
  if (family == "gpt2") {
    config.kv_heads = config.heads;
    config.head_dim = config.hidden_size / config.heads;  // 3: attention makes it even
    config.tie_embeddings = true;
  }
  return config;
}

struct Packed {
  at::Tensor tokens, cu_seqlens;
};

inline Packed pack(const std::vector<std::vector<int64_t>>& sequences) {
  std::vector<int64_t> tokens, bounds = {0};
  for (const auto& sequence : sequences) {
    tokens.insert(tokens.end(), sequence.begin(), sequence.end());
    bounds.push_back(static_cast<int64_t>(tokens.size()));
  }
  return {at::tensor(tokens, at::kLong), at::tensor(bounds, at::kLong)};
}

/// Folder of shared data, or an empty path where the machine has none.
inline std::filesystem::path shared_data(const std::string& name) {
  const char* source = std::getenv("HONE_SOURCE_DIR");
  if (source == nullptr) return {};
  const auto path = std::filesystem::path(source) / ".." / "shared" / "data" / name;
  return std::filesystem::exists(path) ? path : std::filesystem::path();
}

}  // namespace hone::test
