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
  std::string why;                   // a sentence; empty: the first that there were
  double propensity = 1.0;           // with which it was selected
};

/// One answer of the policy before training and one after for each of `count` held-out prompts, in
/// an order that a hash of (seed, question) decides. Pairs of equal answers are left out. Where the
/// run's reward model has a posterior, they are the `count` of eight times as many that it selects
/// (reward/acquisition.h, the default rule).
std::vector<Question> make_questions(Workspace& workspace, int64_t count, int64_t seed);

}  // namespace hone::engine
