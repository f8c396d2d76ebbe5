// load_model and save_model: Hugging Face directories in and out.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/isfinite.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "data/atomic_file.h"
#include "data/error.h"
#include "engine/io/safetensors.h"
#include "engine/models/causal_lm.h"
#include "engine/models/families.h"
#include "engine/models/layout.h"

namespace hone::engine {
namespace {

namespace fs = std::filesystem;

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

at::ScalarType stored_type(const std::string& name, const StoredTensor& tensor) {
  if (tensor.dtype == "F32") return at::kFloat;
  if (tensor.dtype == "F64") return at::kDouble;
  if (tensor.dtype == "BF16") return at::kBFloat16;
  if (tensor.dtype == "F16") return at::kHalf;
  throw data::InputError(tensor.file, "dtype of tensor " + name, "F32, F64, BF16 or F16",
                         tensor.dtype);
}

/// The stored values in the file's type, in aligned memory of our own.
at::Tensor stored_values(const std::string& name, const StoredTensor& tensor) {
  at::Tensor values = at::empty(tensor.shape, stored_type(name, tensor));
  if (tensor.size > 0) std::memcpy(values.mutable_data_ptr(), tensor.bytes, tensor.size);
  return values;
}

/// A tied checkpoint may carry the head once more; it has to be the embedding.
bool is_tied_copy(const std::string& name, const Safetensors& file, const ModelConfig& config,
                  const Family& family) {
  if (!config.tie_embeddings || name != family.names.lm_head) return false;
  const StoredTensor& head = file.at(name);
  const StoredTensor& embedding = file.at(family.names.embedding);
  if (head.dtype == embedding.dtype && head.shape == embedding.shape &&
      std::memcmp(head.bytes, embedding.bytes, head.size) == 0) {
    return true;
  }
  throw data::InputError(head.file, "tensor " + name,
                         std::string("the same values as ") + family.names.embedding +
                             " (tie_word_embeddings is true)",
                         "others");
}

/// Every parameter in the file with its shape, nothing else in the file. A scalar head may be
/// missing (a language model's checkpoint), and a language model's head may then be left over.
void check_tensors(const Safetensors& file, const std::string& where, const ModelConfig& config,
                   HeadKind head, const ParameterArena& arena) {
  const Family& family = find_family(config.family, where);
  std::set<std::string> known;
  for (const ParameterSlice& slice : arena.slices()) {
    known.insert(slice.name);
    const auto found = file.tensors().find(slice.name);
    if (found == file.tensors().end()) {
      if (slice.name == family.names.scalar_head) continue;
      throw data::InputError(where, "tensor " + slice.name, shape_text(slice.shape), "nothing");
    }
    if (found->second.shape != slice.shape) {
      throw data::InputError(found->second.file, "shape of tensor " + slice.name,
                             shape_text(slice.shape), shape_text(found->second.shape));
    }
    stored_type(slice.name, found->second);
  }
  for (const auto& [name, tensor] : file.tensors()) {
    if (known.count(name) != 0 || name.ends_with(".rotary_emb.inv_freq")) continue;
    if (head == HeadKind::kScalar && name == family.names.lm_head) continue;
    if (is_tied_copy(name, file, config, family)) continue;
    throw data::InputError(tensor.file, "tensor " + name,
                           "no such tensor in a model of family " + config.family,
                           shape_text(tensor.shape));
  }
}

/// generation_config.json may name more end tokens than config.json; transformers generates by it.
void read_generation_config(const fs::path& directory, ModelConfig& config) {
  const fs::path path = directory / "generation_config.json";
  if (!fs::exists(path)) return;
  const auto root = nlohmann::json::parse(data::read_file(path), nullptr, false);
  if (!root.is_object()) {
    throw data::InputError(path.string(), "content", "a JSON object", "something else");
  }
  if (!root.contains("eos_token_id") || root["eos_token_id"].is_null()) return;
  const auto& eos = root["eos_token_id"];
  std::vector<int64_t> ids;
  for (const auto& id : eos.is_array() ? eos : nlohmann::json::array({eos})) {
    if (!id.is_number_integer()) {
      throw data::InputError(path.string(), "eos_token_id", "integers", eos.dump().substr(0, 100));
    }
    ids.push_back(id.get<int64_t>());
  }
  config.eos_ids = ids;
  config.validate(path.string());
}

}  // namespace

std::unique_ptr<CausalLM> load_model(const fs::path& directory, HeadKind head, at::ScalarType dtype,
                                     at::Device device) {
  if (!fs::is_directory(directory)) {
    throw data::InputError(directory.string(), "model", "a directory with config.json",
                           fs::exists(directory) ? "a file" : "nothing");
  }
  const fs::path config_path = directory / "config.json";
  ModelConfig config = ModelConfig::from_json(data::read_file(config_path), config_path.string());
  read_generation_config(directory, config);
  const Safetensors file = Safetensors::open(directory);
  {
    // Before anything is allocated: what config.json asks for has to be in the file.
    ParameterArena declared;
    declare_parameters(config, head, declared);
    check_tensors(file, directory.string(), config, head, declared);
  }
  auto model = std::make_unique<CausalLM>(config, head, dtype, device);
  const at::NoGradGuard no_grad;
  for (const ParameterSlice& slice : model->parameters().slices()) {
    const auto found = file.tensors().find(slice.name);
    at::Tensor values = model->parameters().slice(slice.name);
    if (found == file.tensors().end()) {
      model->initialize_scalar_head(0);
      continue;
    }
    values.copy_(stored_values(slice.name, found->second));
    if (!at::isfinite(values).all().item<bool>()) {
      throw data::InputError(found->second.file, "tensor " + slice.name, "finite numbers",
                             "infinity or NaN");
    }
  }
  return model;
}

void save_model(const CausalLM& model, const fs::path& directory) {
  const at::NoGradGuard no_grad;
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) {
    throw data::IoError(directory.string(), "directory", "to be created", error.message());
  }
  std::vector<at::Tensor> kept;  // float32 copies where the arena has another type or device
  std::vector<TensorToStore> tensors;
  for (const ParameterSlice& slice : model.parameters().slices()) {
    kept.push_back(model.parameters().slice(slice.name).to(at::kCPU, at::kFloat).contiguous());
    tensors.push_back({slice.name, "F32", slice.shape, kept.back().const_data_ptr(),
                       static_cast<size_t>(slice.numel) * sizeof(float)});
  }
  write_safetensors(directory / "model.safetensors", tensors, {{"format", "pt"}});
  data::write_file_atomically(directory / "config.json",
                              model.config().to_json(model.head() == HeadKind::kScalar));
}

}  // namespace hone::engine
