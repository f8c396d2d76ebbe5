#pragma once

// manifest.json: written last, so a checkpoint without it never was one.

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/checkpoint/shard.h"

namespace hone::engine {

/// Where in a stage a checkpoint stands: `step` finished steps, and `part` more safe points inside
/// the next one (PPO: 1 after the rollout, 1 + n after n minibatches).
struct TrainingPosition {
  int64_t step = 0, part = 0;
  auto operator<=>(const TrainingPosition&) const = default;
};

/// What must agree between a checkpoint and the run that loads it.
struct TrainingIdentity {
  std::string recipe;  // hash of the stage's options and of everything it depends on
  std::string model;   // hash of parameter names and shapes
  std::string data;    // hash of what is trained on
};

struct Manifest {
  TrainingPosition position;
  TrainingIdentity identity;
  nlohmann::json metrics;  // Metrics::position()
  double seconds = 0;      // of the stage up to here, over all its parts
  std::string time;        // ISO 8601
  std::string version;     // of the build that wrote it
  nlohmann::json scalars;
  std::vector<ShardRecord> shards;  // one a rank
};

/// "step-00000012" or "step-00000012.0003": names sort as positions do.
std::string checkpoint_name(const TrainingPosition& position);

std::string manifest_text(const Manifest& manifest);
/// Throws data::CorruptError naming the file when it is not what manifest_text wrote, or its own
/// checksum does not hold.
Manifest read_manifest(const std::filesystem::path& checkpoint);

/// Every shard is there with its size and SHA-256. Throws data::CorruptError naming the file.
void verify_shards(const std::filesystem::path& checkpoint, const Manifest& manifest);

/// Throws data::InputError naming the checkpoint when it is of another recipe, model or data.
void check_identity(const std::filesystem::path& checkpoint, const Manifest& manifest,
                    const TrainingIdentity& expected);

}  // namespace hone::engine
