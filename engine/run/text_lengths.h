#pragma once

// Whether people's texts fit the recipe's limits, which are in tokens: another tokenizer may need
// twice as many for the same words.

#include <nlohmann/json_fwd.hpp>

#include "engine/run/workspace.h"

namespace hone::engine {

/// "data.cut_texts": share of the training texts that are longer than data.max_tokens (or the
/// model's positions) allows; "data.text_limit": that; "data.text_tokens": what 99 % stay within.
/// From at most 2,000 texts evenly spaced; nothing where there are none.
nlohmann::json text_length_figures(Workspace& workspace);

/// The same of what people answered (demonstrations, else items) and the policy's max_new_tokens:
/// "data.cut_answers", "data.answer_limit", "data.answer_tokens".
nlohmann::json answer_length_figures(Workspace& workspace);

}  // namespace hone::engine
