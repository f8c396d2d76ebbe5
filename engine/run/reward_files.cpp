#include "engine/run/reward_files.h"

#include <nlohmann/json.hpp>

#include "data/atomic_file.h"
#include "data/error.h"

namespace hone::engine {

RewardFile read_reward_file(const std::filesystem::path& directory) {
  const auto path = directory / "reward.json";
  try {
    const auto object = nlohmann::json::parse(data::read_file(path));
    RewardFile file;
    file.normalization.mean = object.at("normalization").at("mean").get<double>();
    file.normalization.std = object.at("normalization").at("std").get<double>();
    file.temperature = object.at("temperature").get<double>();
    return file;
  } catch (const nlohmann::json::exception& error) {
    throw data::InputError(path.string(), "reward.json", "what the reward stage wrote",
                           error.what());
  }
}

void write_reward_file(const std::filesystem::path& directory, const RewardFile& file) {
  const nlohmann::json object = {
      {"normalization", {{"mean", file.normalization.mean}, {"std", file.normalization.std}}},
      {"temperature", file.temperature}};
  data::write_file_atomically(directory / "reward.json", object.dump(1) + "\n");
}

}  // namespace hone::engine
