#pragma once

// raters.json beside a reward model's weights: how reliable its training found each rater.

#include <filesystem>
#include <string>
#include <vector>

#include "engine/run/stages.h"
#include "reward/rater_model.h"

namespace hone::engine {

/// Whoever gave fewer answers is named with their number only: nobody is judged on so few.
constexpr int64_t kFewAnswers = 20;

/// Writes the file, and puts its figures into `outcome` (summary: reward.rater_*). `names` by
/// rater.
void write_rater_file(const std::filesystem::path& directory, const std::string& kind,
                      const reward::RaterModel& model, const std::vector<std::string>& names,
                      StageOutcome& outcome);

}  // namespace hone::engine
