#pragma once

#include "engine/checkpoint/saved_state.h"
#include "engine/checkpoint/training_state.h"
#include "engine/rollout/rollout.h"

namespace hone::engine {

/// A rollout in flight, the same on every rank, as "rollout/...": texts, scores and every tensor
/// that is defined.
void add_rollout(TrainingState& state, const Rollout& rollout);
Rollout saved_rollout(const SavedState& saved, at::Device device);

}  // namespace hone::engine
