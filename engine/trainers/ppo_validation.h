#pragma once

#include "engine/trainers/ppo_trainer.h"

namespace hone::engine {

/// Throws data::InputError naming the option that cannot be, what was expected and what came.
void validate(const PpoProblem& problem, const PpoOptions& options);

}  // namespace hone::engine
