#pragma once

// The passes of direct preference training: log-probabilities of whole answers, then loss and
// gradients of compared pairs. Each reads packed texts and one network.

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "engine/distributed/communicator.h"
#include "engine/models/causal_lm.h"
#include "engine/packing/packed_batch.h"
#include "engine/trainers/direct_options.h"
#include "reward/direct_pairs.h"

namespace hone::engine {

/// Answers with their prompts; `reference` [T]: the reference's log-probability of each answer.
struct ScoredTexts {
  std::vector<TrainingText> texts;
  std::vector<double> reference;
};

/// Means over judgements; a pair counts as often as somebody decided it.
struct DirectFigures {
  double loss = 0;
  double accuracy = 0;  // share whose chosen answer has the larger implicit reward, equal half
  double margin = 0;    // implicit reward of the chosen less that of the rejected answer
  double chosen_reward = 0, rejected_reward = 0;
  double chosen_logprob = 0, rejected_logprob = 0;  // nats an answer

  static constexpr size_t kNumbers = 7;
  std::array<double, kNumbers> numbers() const;
  static DirectFigures of(const double* numbers);
};

struct DirectObjective {
  const DirectOptions& options;
  double judgements = 0;  // of the whole optimizer step; weights are shares of them
  double kl = 0;          // kto: mean of log pi / ref over answers to other prompts
  int64_t micro_tokens = 0;
};

/// Judgements in `pairs`, indices of which are into ScoredTexts::texts.
double judgements_of(const std::vector<reward::DirectPair>& pairs);

/// Adds the gradient of the pairs' part of an optimizer step's loss to the policy's arena, and
/// returns their part of its figures. Both answers of a pair stand in one forward pass of at most
/// `micro_tokens` tokens (or of one pair; 0 = all); the gradient is the same whatever that is.
/// `before_last` is called before the last backward pass.
DirectFigures accumulate_direct_gradients(CausalLM& policy, const ScoredTexts& texts,
                                          const std::vector<reward::DirectPair>& pairs,
                                          const DirectObjective& objective,
                                          const std::function<void()>& before_last = {});

/// The figures of given pairs; no gradient. Zeros without pairs.
DirectFigures evaluate_direct(CausalLM& policy, const ScoredTexts& texts,
                              const std::vector<reward::DirectPair>& pairs,
                              const DirectOptions& options);

/// Sums over each text's answer of log softmax(logits / temperature), nats; no gradient. Forward
/// passes are the same and in the same order on any number of ranks, which share them.
std::vector<double> answer_logprobs(CausalLM& model, const std::vector<TrainingText>& texts,
                                    double temperature,
                                    Communicator& communicator = world_of_one());

}  // namespace hone::engine
