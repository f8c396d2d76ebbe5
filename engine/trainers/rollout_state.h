#pragma once

#include "engine/checkpoint/saved_state.h"
#include "engine/checkpoint/training_state.h"
#include "engine/rollout/rollout.h"

namespace hone::engine {

/// A rollout in flight, as parts "rollout/...": texts, scores and every tensor that is defined.
void add_rollout(TrainingState& state, const Rollout& rollout);
/// The rollout that saving rank `rank` had, its tensors on `device`.
Rollout saved_rollout(const SavedState& saved, int64_t rank, at::Device device);

}  // namespace hone::engine
