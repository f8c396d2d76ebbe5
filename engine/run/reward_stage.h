#pragma once

// What the reward stage reads and how it scores it, for others that measure a reward model.

#include <vector>

#include "data/records.h"
#include "engine/run/workspace.h"
#include "reward/preference_data.h"

namespace hone::engine {

/// Judgements of a split by the raters of a fold, of the kinds that the recipe names.
reward::PreferenceData judgements(Workspace& workspace, data::Split split, reward::RaterFold fold);

/// Raw scores of `items` at their indices, 0 elsewhere.
std::vector<float> score_items(Workspace& workspace, CausalLM& model,
                               const std::vector<int64_t>& items);

}  // namespace hone::engine
