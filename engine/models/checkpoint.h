#pragma once

// A Hugging Face directory before its weights are read: its config and its tensors' headers,
// checked against each other.

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/io/safetensors.h"
#include "engine/models/causal_lm.h"
#include "engine/models/families.h"

namespace hone::engine {

/// A type of weights: as safetensors, torch (in config.json) and ATen name it.
struct StoredType {
  const char* name;
  const char* torch;
  at::ScalarType type;
};

/// InputError names file, tensor and the types that are read.
const StoredType& stored_type(const std::string& name, const StoredTensor& tensor);
/// What a file holds an arena of this type in; float64 is for tests and leaves as float32.
const StoredType& file_type(at::ScalarType arena);
/// Shape of a parameter as checkpoints have it.
std::vector<int64_t> stored_shape(const ParameterSlice& slice);

/// A checkpoint's tensors under the names that the family's row has.
class Checkpoint {
 public:
  /// Reads config.json, generation_config.json and the headers of the weights.
  explicit Checkpoint(const std::filesystem::path& directory);

  /// Whether there is a head that makes a score of a text.
  bool has_scalar_head() const { return find(family_.names.scalar_head) != nullptr; }
  const ModelConfig& config() const { return config_; }
  const Family& family() const { return family_; }
  const Safetensors& file() const { return file_; }

  /// The file's name for a tensor of the row.
  std::string stored_name(const std::string& name) const;
  /// Null when the file does not have it.
  const StoredTensor* find(const std::string& name) const;
  /// Every parameter in the file with its shape, nothing else in the file. A scalar head may be
  /// missing (a language model's checkpoint), and a language model's head may then be left over.
  void check(HeadKind head, const ParameterArena& arena) const;

 private:
  bool is_tied_copy(const std::string& name) const;

  std::string where_;
  ModelConfig config_;
  const Family& family_;
  Safetensors file_;
};

}  // namespace hone::engine
