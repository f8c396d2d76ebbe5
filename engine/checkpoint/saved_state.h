#pragma once

// A checkpoint as a rank loads it, whatever the number of ranks that wrote it.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "engine/checkpoint/manifest.h"
#include "engine/io/safetensors.h"

namespace hone::engine {

class SavedState {
 public:
  /// Maps the shards of a verified checkpoint; bytes are read when asked for.
  SavedState(std::filesystem::path checkpoint, Manifest manifest);

  const std::filesystem::path& path() const { return path_; }
  const TrainingPosition& position() const { return manifest_.position; }
  const nlohmann::json& scalars() const { return manifest_.scalars; }
  const Manifest& manifest() const { return manifest_; }
  /// Ranks that wrote it.
  int64_t world() const { return static_cast<int64_t>(manifest_.shards.size()); }

  /// Fills `destination` (contiguous, any device) with elements [begin, begin + numel) of the whole
  /// of `size`. Throws data::InputError naming the tensor when the checkpoint has none such, or
  /// another size, type or a gap.
  void read(const std::string& name, const at::Tensor& destination, int64_t size,
            int64_t begin = 0) const;
  void read(const std::string& name, const at::Tensor& destination) const {
    read(name, destination, destination.numel());
  }
  /// All elements, flat, on the CPU.
  at::Tensor whole(const std::string& name) const;
  bool has(const std::string& name) const { return places_.count(name) > 0; }
  /// Flat copies of the parts that each saving rank wrote, by rank. Throws like read.
  std::vector<at::Tensor> parts(const std::string& name) const;

 private:
  struct Place {
    size_t shard;
    Piece piece;
  };
  const std::vector<Place>& places(const std::string& name) const;
  const StoredTensor& stored(const Place& place) const;

  std::filesystem::path path_;
  Manifest manifest_;
  std::vector<Safetensors> files_;
  std::map<std::string, std::vector<Place>> places_;
};

}  // namespace hone::engine
