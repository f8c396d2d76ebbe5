// load_model and save_model: Hugging Face directories in and out.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "data/atomic_file.h"
#include "data/error.h"
#include "engine/io/json.h"
#include "engine/io/safetensors.h"
#include "engine/models/causal_lm.h"
#include "engine/models/families.h"
#include "engine/models/layout.h"

namespace hone::engine {
namespace {

namespace fs = std::filesystem;
using data::InputError;

/// What is read, converted and checked at a time.
constexpr int64_t kChunkElements = int64_t{1} << 20;

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

struct StoredType {
  const char* name;   // in safetensors
  const char* torch;  // in config.json
  at::ScalarType type;
};

constexpr StoredType kStoredTypes[] = {{"F32", "float32", at::kFloat},
                                       {"BF16", "bfloat16", at::kBFloat16},
                                       {"F16", "float16", at::kHalf},
                                       {"F64", "float64", at::kDouble}};

at::ScalarType stored_type(const std::string& name, const StoredTensor& tensor) {
  for (const StoredType& stored : kStoredTypes) {
    if (tensor.dtype == stored.name) return stored.type;
  }
  throw InputError(tensor.file, "dtype of tensor " + name, "F32, F64, BF16 or F16", tensor.dtype);
}

/// What a file holds an arena of this type in; float64 is for tests and leaves as float32.
const StoredType& file_type(at::ScalarType arena) {
  for (const StoredType& stored : kStoredTypes) {
    if (arena == stored.type && arena != at::kDouble) return stored;
  }
  return kStoredTypes[0];
}

/// Shape of a parameter as the checkpoint has it.
std::vector<int64_t> stored_shape(const ParameterSlice& slice) {
  std::vector<int64_t> shape = slice.shape;
  if (slice.transposed) std::swap(shape[0], shape[1]);
  return shape;
}

/// A checkpoint's tensors under the names that the family's row has.
class Checkpoint {
 public:
  Checkpoint(const fs::path& directory, const ModelConfig& config)
      : where_(directory.string()),
        file_(Safetensors::open(directory)),
        family_(find_family(config.family, where_)) {
    bare_ = std::none_of(file_.tensors().begin(), file_.tensors().end(), [&](const auto& tensor) {
      return tensor.first.starts_with(family_.prefix);
    });
  }

  bool bare() const { return bare_; }
  const std::string& where() const { return where_; }
  const Family& family() const { return family_; }
  const Safetensors& file() const { return file_; }

  /// The file's name for a tensor of the row.
  std::string stored_name(const std::string& name) const {
    return bare_ && name.starts_with(family_.prefix) ? name.substr(std::strlen(family_.prefix))
                                                     : name;
  }
  /// Null when the file does not have it.
  const StoredTensor* find(const std::string& name) const {
    const auto found = file_.tensors().find(stored_name(name));
    return found == file_.tensors().end() ? nullptr : &found->second;
  }

 private:
  std::string where_;
  Safetensors file_;
  const Family& family_;
  bool bare_ = false;
};

/// A tied checkpoint may carry the head once more; it has to be the embedding.
bool is_tied_copy(const std::string& name, const Checkpoint& checkpoint,
                  const ModelConfig& config) {
  const CheckpointNames& names = checkpoint.family().names;
  if (!config.tie_embeddings || name != names.lm_head) return false;
  const StoredTensor& head = *checkpoint.find(names.lm_head);
  const StoredTensor& embedding = *checkpoint.find(names.embedding);
  if (head.dtype == embedding.dtype && head.shape == embedding.shape &&
      std::memcmp(head.bytes, embedding.bytes, head.size) == 0) {
    Safetensors::release(head);
    return true;
  }
  throw InputError(head.file, "tensor " + name,
                   "the same values as " + checkpoint.stored_name(names.embedding) +
                       " (tie_word_embeddings is true)",
                   "others");
}

bool is_ignored(const std::string& name, const Family& family) {
  return std::any_of(family.ignored_suffixes.begin(), family.ignored_suffixes.end(),
                     [&](const char* suffix) { return name.ends_with(suffix); });
}

/// Every parameter in the file with its shape, nothing else in the file. A scalar head may be
/// missing (a language model's checkpoint), and a language model's head may then be left over.
void check_tensors(const Checkpoint& checkpoint, const ModelConfig& config, HeadKind head,
                   const ParameterArena& arena) {
  const Family& family = checkpoint.family();
  std::set<std::string> known;
  for (const ParameterSlice& slice : arena.slices()) {
    const std::string name = checkpoint.stored_name(slice.name);
    const std::vector<int64_t> shape = stored_shape(slice);
    known.insert(name);
    const StoredTensor* stored = checkpoint.find(slice.name);
    if (stored == nullptr) {
      if (slice.name == family.names.scalar_head) continue;
      throw InputError(checkpoint.where(), "tensor " + name, shape_text(shape), "nothing");
    }
    if (stored->shape != shape) {
      throw InputError(stored->file, "shape of tensor " + name, shape_text(shape),
                       shape_text(stored->shape));
    }
    stored_type(name, *stored);
  }
  for (const auto& [name, tensor] : checkpoint.file().tensors()) {
    if (known.count(name) != 0 || is_ignored(name, family)) continue;
    if (head == HeadKind::kScalar && name == family.names.lm_head) continue;
    if (is_tied_copy(name, checkpoint, config)) continue;
    throw InputError(tensor.file, "tensor " + shown_json(name),
                     "no such tensor in a model of family " + config.family,
                     shape_text(tensor.shape));
  }
}

/// Copies a stored tensor to its place, a few rows at a time, and gives back the file's pages: no
/// second copy of a tensor exists.
void read_parameter(const std::string& name, const StoredTensor& stored,
                    const ParameterSlice& slice, at::Tensor values) {
  if (slice.transposed) values = values.t();
  const int64_t rows = stored.shape[0];
  const int64_t columns = rows == 0 ? 0 : slice.numel / rows;
  const int64_t step = std::max<int64_t>(1, kChunkElements / std::max<int64_t>(columns, 1));
  std::vector<int64_t> shape = stored.shape;
  shape[0] = std::min(rows, step);
  const at::Tensor buffer = at::empty(shape, stored_type(name, stored));
  const size_t row_bytes = static_cast<size_t>(columns) * buffer.element_size();
  for (int64_t begin = 0; begin < rows; begin += step) {
    const int64_t count = std::min(step, rows - begin);
    const at::Tensor chunk = buffer.narrow(0, 0, count);
    std::memcpy(chunk.mutable_data_ptr(), stored.bytes + static_cast<size_t>(begin) * row_bytes,
                static_cast<size_t>(count) * row_bytes);
    at::Tensor place = values.narrow(0, begin, count);
    place.copy_(chunk);
    if (!at::isfinite(place).all().item<bool>()) {
      throw InputError(stored.file, "tensor " + name, "finite numbers", "infinity or NaN");
    }
  }
  Safetensors::release(stored);
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

}  // namespace

std::unique_ptr<CausalLM> load_model(const fs::path& directory, HeadKind head, at::ScalarType dtype,
                                     at::Device device) {
  if (!fs::is_directory(directory)) {
    throw InputError(directory.string(), "model", "a directory with config.json",
                     fs::exists(directory) ? "a file" : "nothing");
  }
  const fs::path config_path = directory / "config.json";
  ModelConfig config = ModelConfig::from_json(data::read_file(config_path), config_path.string());
  read_generation_config(directory, config);
  const Checkpoint checkpoint(directory, config);
  config.bare_names = checkpoint.bare();
  {
    // Before anything is allocated: what config.json asks for has to be in the file.
    ParameterArena declared;
    declare_parameters(config, head, declared);
    check_tensors(checkpoint, config, head, declared);
  }
  auto model = std::make_unique<CausalLM>(config, head, dtype, device);
  const at::NoGradGuard no_grad;
  for (const ParameterSlice& slice : model->parameters().slices()) {
    const StoredTensor* stored = checkpoint.find(slice.name);
    if (stored == nullptr) {
      model->initialize_scalar_head(0);
      continue;
    }
    read_parameter(checkpoint.stored_name(slice.name), *stored, slice,
                   model->parameters().slice(slice));
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
  const ModelConfig& config = model.config();
  const Family& family = find_family(config.family, "model");
  const StoredType& type = file_type(model.parameters().data().scalar_type());
  // A head of its own beside bare names would make a file that is neither.
  const bool bare =
      config.bare_names && config.tie_embeddings && model.head() == HeadKind::kLanguageModel;
  std::vector<TensorToStore> tensors;
  for (const ParameterSlice& slice : model.parameters().slices()) {
    const size_t skipped =
        bare && slice.name.starts_with(family.prefix) ? std::strlen(family.prefix) : 0;
    tensors.push_back({slice.name.substr(skipped), type.name, stored_shape(slice), nullptr,
                       static_cast<size_t>(slice.numel) * c10::elementSize(type.type)});
  }
  SafetensorsWriter writer(directory / "model.safetensors", tensors, {{"format", "pt"}});
  for (const ParameterSlice& slice : model.parameters().slices()) {
    at::Tensor values = model.parameters().slice(slice);
    if (slice.transposed) values = values.t();
    values = values.to(at::kCPU, type.type).contiguous();
    writer.write(values.const_data_ptr(), values.nbytes());
  }
  writer.finish();
  data::write_file_atomically(directory / "config.json",
                              config.to_json(model.head() == HeadKind::kScalar, type.torch));
}

}  // namespace hone::engine
