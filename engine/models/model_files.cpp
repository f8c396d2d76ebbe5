// load_model and save_model: Hugging Face directories in and out.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "data/atomic_file.h"
#include "data/error.h"
#include "engine/models/causal_lm.h"
#include "engine/models/checkpoint.h"
#include "engine/models/layout.h"

namespace hone::engine {
namespace {

namespace fs = std::filesystem;
using data::InputError;

/// What is read, converted and checked at a time.
constexpr int64_t kChunkElements = int64_t{1} << 20;

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
  const at::Tensor buffer = at::empty(shape, stored_type(name, stored).type);
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

}  // namespace

std::unique_ptr<CausalLM> load_model(const fs::path& directory, HeadKind head, at::ScalarType dtype,
                                     at::Device device) {
  const Checkpoint checkpoint(directory);
  const ModelConfig& config = checkpoint.config();
  {
    // Before anything is allocated: what config.json asks for has to be in the file.
    ParameterArena declared;
    declare_parameters(config, head, declared);
    checkpoint.check(head, declared);
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
  model.parameters().require_whole("model to save");
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
