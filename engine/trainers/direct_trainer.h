#pragma once

// Direct preference training: from stored comparisons to a policy without a reward model (DPO and
// its family; ALGORITHMS.md 1.7).

#include <cstdint>
#include <functional>
#include <vector>

#include "engine/trainers/direct_update.h"
#include "engine/trainers/training_context.h"

namespace hone::engine {

struct DirectProblem {
  CausalLM* policy = nullptr;             // trained in place; as it comes, it is the reference too
  std::vector<TrainingText> texts;        // prompt and answer
  std::vector<reward::DirectPair> pairs;  // indices into `texts`
  std::vector<reward::DirectPair> held_out;
  uint64_t seed = 0;
  /// Called before optimizer step `step` (0, 1, ...) where `look_every` divides it and after the
  /// last, on every rank with the policy whole, with the held-out pairs' figures (zeros without
  /// pairs). Its time is not counted as training. May be empty.
  std::function<void(int64_t step, const DirectFigures& held_out)> look;
  int64_t look_every = 0;  // 0 = only after the last step
};

struct DirectResult {
  int64_t steps = 0, tokens = 0;  // tokens read, prompts and repeated epochs included
  double first_loss = 0;          // of the first step: log 2 with dpo
  double seconds = 0;
  DirectFigures before, after;                    // of the held-out pairs
  DirectFigures training_before, training_after;  // of as many training pairs
};

/// Trains in place; one metrics step an optimizer step, stage "direct". The reference's
/// log-probabilities are computed once, before the first step. Throws data::InputError for options
/// that cannot be, for no pairs and for texts longer than the model's context, Interrupted between
/// steps when asked to stop.
DirectResult train_direct(DirectProblem& problem, const DirectOptions& options,
                          const TrainingContext& context);

}  // namespace hone::engine
