#include "engine/checkpoint/saved_state.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <cstring>

#include "data/error.h"

namespace hone::engine {

using data::InputError;

SavedState::SavedState(std::filesystem::path checkpoint, Manifest manifest)
    : path_(std::move(checkpoint)), manifest_(std::move(manifest)) {
  for (size_t s = 0; s < manifest_.shards.size(); ++s) {
    files_.push_back(Safetensors::open(path_ / manifest_.shards[s].file));
    for (const auto& piece : manifest_.shards[s].pieces) {
      places_[piece.name].push_back({s, piece});
    }
  }
}

const std::vector<SavedState::Place>& SavedState::places(const std::string& name) const {
  const auto found = places_.find(name);
  if (found == places_.end())
    throw InputError(path_.string(), "'" + name + "'", "a tensor", "none");
  return found->second;
}

const StoredTensor& SavedState::stored(const Place& place) const {
  const auto& tensor = files_[place.shard].at(place.piece.stored_name());
  if (tensor.dtype != place.piece.type || tensor.shape != std::vector<int64_t>{place.piece.count}) {
    throw InputError(path_.string(), "'" + place.piece.name + "'", "what the manifest says",
                     "another type or size");
  }
  return tensor;
}

void SavedState::read(const std::string& name, const at::Tensor& destination, int64_t size,
                      int64_t begin) const {
  const at::NoGradGuard no_grad;
  const int64_t end = begin + destination.numel();
  const at::Tensor flat = destination.detach().view({-1});
  int64_t filled = 0;
  for (const auto& place : places(name)) {
    const Piece& piece = place.piece;
    if (piece.part || piece.size != size ||
        type_of_stored(piece.type) != destination.scalar_type()) {
      throw InputError(
          path_.string(), "'" + name + "'",
          std::to_string(size) + " elements of " + stored_type_name(destination.scalar_type()),
          std::to_string(piece.size) + " of " + piece.type);
    }
    const int64_t from = std::max(begin, piece.begin);
    const int64_t to = std::min(end, piece.begin + piece.count);
    if (from >= to) continue;
    const auto& tensor = stored(place);
    const auto element = static_cast<int64_t>(destination.element_size());
    // The mapping is only read from: from_blob has no form that says so.
    auto* bytes = const_cast<std::byte*>(tensor.bytes) + (from - piece.begin) * element;
    flat.narrow(0, from - begin, to - from)
        .copy_(at::from_blob(bytes, {to - from}, destination.scalar_type()));
    filled += to - from;
  }
  if (filled != destination.numel()) {
    throw InputError(path_.string(), "'" + name + "'",
                     "elements " + std::to_string(begin) + " to " + std::to_string(end),
                     std::to_string(filled) + " of them");
  }
}

at::Tensor SavedState::whole(const std::string& name) const {
  const Piece& piece = places(name).front().piece;
  at::Tensor values = at::empty({piece.size}, type_of_stored(piece.type));
  read(name, values);
  return values;
}

std::vector<at::Tensor> SavedState::parts(const std::string& name) const {
  std::vector<at::Tensor> found;
  for (const auto& place : places(name)) {
    const auto& tensor = stored(place);
    at::Tensor copy = at::empty({place.piece.count}, type_of_stored(place.piece.type));
    std::memcpy(copy.mutable_data_ptr(), tensor.bytes, tensor.size);
    found.push_back(std::move(copy));
  }
  return found;
}

}  // namespace hone::engine
