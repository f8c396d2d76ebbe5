#include "engine/run/posterior_file.h"

#include <ATen/ops/empty.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "data/error.h"
#include "data/sha256.h"
#include "engine/io/safetensors.h"

namespace hone::engine {
namespace {

using kernels::math::PreferenceModel;

constexpr const char* kFile = "posterior.safetensors";
constexpr const char* kModel = "model.safetensors";

at::Tensor read_tensor(const StoredTensor& stored, const char* name, size_t dimensions) {
  if (stored.dtype != "F64" || stored.shape.size() != dimensions) {
    throw data::InputError(stored.file, name, std::to_string(dimensions) + " dimensions of F64",
                           std::to_string(stored.shape.size()) + " of " + stored.dtype);
  }
  at::Tensor tensor = at::empty(stored.shape, at::kDouble);
  if (stored.size > 0) std::memcpy(tensor.data_ptr(), stored.bytes, stored.size);
  return tensor;
}

}  // namespace

bool has_posterior(const std::filesystem::path& directory) {
  return std::filesystem::exists(directory / kFile);
}

void write_posterior(const std::filesystem::path& directory, const reward::Posterior& posterior) {
  const at::Tensor mean = posterior.mean().contiguous(),
                   precision = posterior.precision().contiguous();
  const auto& params = posterior.likelihood().params();
  const double likelihood[3] = {static_cast<double>(params.model), params.tie, params.lapse};
  const std::string hash = data::sha256_file(directory / kModel);
  const auto bytes = [](const at::Tensor& tensor) {
    return static_cast<size_t>(tensor.numel()) * sizeof(double);
  };
  write_safetensors(
      directory / kFile,
      {{"likelihood", "F64", {3}, likelihood, sizeof likelihood},
       {"mean", "F64", {mean.numel()}, mean.const_data_ptr(), bytes(mean)},
       {"model_sha256", "U8", {static_cast<int64_t>(hash.size())}, hash.data(), hash.size()},
       {"precision", "F64", precision.sizes().vec(), precision.const_data_ptr(), bytes(precision)}},
      {{"format", "hone-reward-posterior 1"}});
}

StoredPosterior read_posterior(const std::filesystem::path& directory) {
  const auto path = directory / kFile;
  if (!std::filesystem::exists(path)) {
    throw data::InputError(
        directory.string(), kFile,
        "what the reward stage writes beside its model (`hone reward RECIPE --out RUN --force` "
        "makes it for a run of an older version)",
        "none");
  }
  const auto file = Safetensors::open(path);
  const auto& stored_hash = file.at("model_sha256");
  const std::string hash(reinterpret_cast<const char*>(stored_hash.bytes), stored_hash.size);
  const std::string expected = data::sha256_file(directory / kModel);
  if (hash != expected) {
    throw data::InputError(path.string(), "model_sha256",
                           "that of the weights beside it, " + expected.substr(0, 12) + "...",
                           hash.substr(0, 12) + "...: the model has changed since");
  }
  const at::Tensor likelihood = read_tensor(file.at("likelihood"), "likelihood", 1);
  const double* given = likelihood.const_data_ptr<double>();
  const bool fits = likelihood.numel() == 3 && given[0] >= 0 && given[0] <= 2 &&
                    given[0] == std::floor(given[0]) && given[2] >= 0 && given[2] < 0.5;
  if (!fits) {
    throw data::InputError(path.string(), "likelihood", "model 0 to 2, tie, lapse below 0.5",
                           "something else");
  }
  return {reward::Posterior(
              read_tensor(file.at("mean"), "mean", 1),
              read_tensor(file.at("precision"), "precision", 2),
              reward::PairLikelihood(
                  {static_cast<PreferenceModel>(static_cast<int>(given[0])), given[1], given[2]})),
          hash};
}

}  // namespace hone::engine
