#pragma once

// reward.json beside a reward model's weights: what its scores mean.

#include <filesystem>

#include "reward/normalization.h"

namespace hone::engine {

struct RewardFile {
  reward::Normalization normalization;  // mean = mean score of the demonstrations
  double temperature = 0;               // of sigma((s_a - s_b) / temperature); 0 = not fitted
};

RewardFile read_reward_file(const std::filesystem::path& directory);
void write_reward_file(const std::filesystem::path& directory, const RewardFile& file);

}  // namespace hone::engine
