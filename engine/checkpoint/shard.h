#pragma once

// One rank's file of a checkpoint, and what the manifest says of it.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "engine/checkpoint/training_state.h"

namespace hone::engine {

/// Elements [begin, begin + count) of a whole of `size`; a part has begin 0 and size = count.
struct Piece {
  std::string name, type;  // type: as safetensors names it
  int64_t size = 0, begin = 0, count = 0;
  bool part = false;
  /// Its name in the shard's file, where a rank may hold several intervals of one tensor.
  std::string stored_name() const;
};

struct ShardRecord {
  std::string file;
  uint64_t bytes = 0;
  std::string sha256;
  std::vector<Piece> pieces;
};

nlohmann::json to_json(const ShardRecord& shard);
/// Throws nlohmann::json::exception for another shape.
ShardRecord shard_from_json(const nlohmann::json& object);

/// What rank `rank` of `world` writes: a share of what every rank holds, all of what it holds
/// alone. `values` refer to the state until HostCopy has copied them.
struct ShardData {
  std::vector<Piece> pieces;
  std::vector<at::Tensor> values;  // flat
};
ShardData share_of(const TrainingState& state, int64_t rank, int64_t world);

/// "shard-00001-of-00004.safetensors"
std::string shard_name(int64_t rank, int64_t world);

/// Writes the file whole or not at all (temporary file, fsync, rename). Throws data::IoError.
ShardRecord write_shard(const std::filesystem::path& folder, const ShardData& data, int64_t rank,
                        int64_t world);

}  // namespace hone::engine
