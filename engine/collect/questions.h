#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/run/workspace.h"

namespace hone::engine {

/// Two answers to one prompt, in the order in which they are shown.
struct Question {
  std::string prompt;
  std::string answers[2];
  bool trained[2] = {false, false};  // true: written by the policy after training
  TokenIds tokens[2];                // whole texts, for the reward model
};

/// One answer of the policy before training and one after for each of `count` held-out prompts, in
/// an order that a hash of (seed, question) decides. Pairs of equal answers are left out.
std::vector<Question> make_questions(Workspace& workspace, int64_t count, int64_t seed);

}  // namespace hone::engine
