#include "engine/models/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "data/atomic_file.h"
#include "data/error.h"
#include "engine/io/json.h"

namespace hone::engine {
namespace {

namespace fs = std::filesystem;
using data::InputError;

constexpr StoredType kStoredTypes[] = {{"F32", "float32", at::kFloat},
                                       {"BF16", "bfloat16", at::kBFloat16},
                                       {"F16", "float16", at::kHalf},
                                       {"F64", "float64", at::kDouble}};

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

/// generation_config.json may name more end tokens than config.json; transformers generates by it.
void read_generation_config(const fs::path& directory, ModelConfig& config) {
  const fs::path path = directory / "generation_config.json";
  if (!fs::exists(path)) return;
  const nlohmann::json root = parse_json(data::read_file(path), path.string());
  const JsonField fields(root, path.string());
  if (!fields.has("eos_token_id")) return;
  const JsonField eos = fields.at("eos_token_id");
  std::vector<int64_t> ids;
  if (eos.value().is_array()) {
    for (size_t i = 0; i < eos.list_size(); ++i) {
      ids.push_back(eos.at(i).integer(0, config.vocab_size - 1));
    }
  } else {
    ids.push_back(eos.integer(0, config.vocab_size - 1));
  }
  config.eos_ids = ids;
}

ModelConfig read_config(const fs::path& directory) {
  if (!fs::is_directory(directory)) {
    throw InputError(directory.string(), "model", "a directory with config.json",
                     fs::exists(directory) ? "a file" : "nothing");
  }
  const fs::path path = directory / "config.json";
  if (!fs::exists(path)) throw InputError(path.string(), "file", "a config.json", "none");
  ModelConfig config = ModelConfig::from_json(data::read_file(path), path.string());
  read_generation_config(directory, config);
  return config;
}

bool is_ignored(const std::string& name, const Family& family) {
  return std::any_of(family.ignored_suffixes.begin(), family.ignored_suffixes.end(),
                     [&](const char* suffix) { return name.ends_with(suffix); });
}

}  // namespace

const StoredType& stored_type(const std::string& name, const StoredTensor& tensor) {
  for (const StoredType& stored : kStoredTypes) {
    if (tensor.dtype == stored.name) return stored;
  }
  throw InputError(tensor.file, "dtype of tensor " + name, "F32, F64, BF16 or F16", tensor.dtype);
}

const StoredType& file_type(at::ScalarType arena) {
  for (const StoredType& stored : kStoredTypes) {
    if (arena == stored.type && arena != at::kDouble) return stored;
  }
  return kStoredTypes[0];
}

std::vector<int64_t> stored_shape(const ParameterSlice& slice) {
  std::vector<int64_t> shape = slice.shape;
  if (slice.transposed) std::swap(shape[0], shape[1]);
  return shape;
}

Checkpoint::Checkpoint(const fs::path& directory)
    : where_(directory.string()),
      config_(read_config(directory)),
      family_(find_family(config_.family, where_)),
      file_(Safetensors::open(directory)) {
  const auto& tensors = file_.tensors();
  config_.bare_names = std::none_of(tensors.begin(), tensors.end(), [&](const auto& tensor) {
    return tensor.first.starts_with(family_.prefix);
  });
}

std::string Checkpoint::stored_name(const std::string& name) const {
  const bool shorter = config_.bare_names && name.starts_with(family_.prefix);
  return shorter ? name.substr(std::strlen(family_.prefix)) : name;
}

const StoredTensor* Checkpoint::find(const std::string& name) const {
  const auto found = file_.tensors().find(stored_name(name));
  return found == file_.tensors().end() ? nullptr : &found->second;
}

/// A tied checkpoint may carry the head once more; it has to be the embedding.
bool Checkpoint::is_tied_copy(const std::string& name) const {
  const CheckpointNames& names = family_.names;
  if (!config_.tie_embeddings || name != names.lm_head) return false;
  const StoredTensor& head = *find(names.lm_head);
  const StoredTensor& embedding = *find(names.embedding);
  if (head.dtype == embedding.dtype && head.shape == embedding.shape &&
      std::memcmp(head.bytes, embedding.bytes, head.size) == 0) {
    Safetensors::release(head);
    return true;
  }
  throw InputError(
      head.file, "tensor " + name,
      "the same values as " + stored_name(names.embedding) + " (tie_word_embeddings is true)",
      "others");
}

void Checkpoint::check(HeadKind head, const ParameterArena& arena) const {
  std::set<std::string> known;
  for (const ParameterSlice& slice : arena.slices()) {
    const std::string name = stored_name(slice.name);
    const std::vector<int64_t> shape = stored_shape(slice);
    known.insert(name);
    const StoredTensor* stored = find(slice.name);
    if (stored == nullptr) {
      if (slice.name == family_.names.scalar_head) continue;
      throw InputError(where_, "tensor " + name, shape_text(shape), "nothing");
    }
    if (stored->shape != shape) {
      throw InputError(stored->file, "shape of tensor " + name, shape_text(shape),
                       shape_text(stored->shape));
    }
    stored_type(name, *stored);
  }
  for (const auto& [name, tensor] : file_.tensors()) {
    if (known.count(name) != 0 || is_ignored(name, family_)) continue;
    if (head == HeadKind::kScalar && name == family_.names.lm_head) continue;
    if (is_tied_copy(name)) continue;
    throw InputError(tensor.file, "tensor " + shown_json(name),
                     "no such tensor in a model of family " + config_.family,
                     shape_text(tensor.shape));
  }
}

}  // namespace hone::engine
