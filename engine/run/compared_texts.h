#pragma once

// The store's comparisons as direct training reads them.

#include <cstdint>
#include <vector>

#include "engine/run/workspace.h"
#include "reward/direct_pairs.h"

namespace hone::engine {

struct ComparedTexts {
  std::vector<TrainingText> texts;  // compared answers with their prompts, each once
  std::vector<reward::DirectPair> training, held_out;  // indices into `texts`; train, test split
  int64_t judgements = 0, ties = 0;                    // of the training split
  int64_t other_prompts = 0;  // its pairs left out because their answers are to two prompts
};

/// All answers to one prompt stand behind the same end of it: as much of its beginning goes as the
/// longest of them asks for (ALGORITHMS 52).
ComparedTexts compared_texts(Workspace& workspace);

}  // namespace hone::engine
