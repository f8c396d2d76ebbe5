#pragma once

#include <string>

#include "engine/trainers/ppo_trainer.h"

namespace hone::engine {

/// Options that contradict each other or are no choice: data::InputError at `where`, naming
/// `prefix` + option.
void check_online_options(const PpoOptions& options, const std::string& where,
                          const std::string& prefix);

/// Throws data::InputError naming the option that cannot be, what was expected and what came.
void validate(const PpoProblem& problem, const PpoOptions& options);

}  // namespace hone::engine
