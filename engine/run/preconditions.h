#pragma once

// What later stages need of the data and of the machine, so that a run ends at once where it would
// end after hours.

#include <string>
#include <vector>

#include "data/error.h"
#include "engine/run/workspace.h"

namespace hone::engine {

/// Throws data::InputError where what one of `stages` needs is not there: judgements to learn from,
/// prompts to answer, programs that score. It takes a look, and the stages themselves check.
void check_preconditions(Workspace& workspace, const std::vector<std::string>& stages);

data::InputError no_judgements(const RunDirectory& run);
data::InputError no_prompts(const RunDirectory& run, data::Split split);

}  // namespace hone::engine
