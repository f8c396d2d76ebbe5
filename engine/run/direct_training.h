#pragma once

// The train stage of a recipe whose train.method is "direct".

#include "engine/run/stages.h"

namespace hone::engine {

/// Trains sft/ on the store's comparisons into policy/.
StageOutcome direct_training(Workspace& workspace);

}  // namespace hone::engine
