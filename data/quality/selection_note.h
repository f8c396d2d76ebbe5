#pragma once

// Why a question was asked, and what the answers then say about the pool it was selected from.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/store.h"

namespace hone::data {

/// What Hone writes into `acquisition` of a pair that it selected: one line of JSON.
struct SelectionNote {
  std::string selection;     // names the batch: pairs of one pool that were selected together
  std::string rule;          // that selected it
  bool by_rule = true;       // false: drawn with equal odds from what the rule left
  double probability = 0.5;  // the reward model's, before anybody answered: the first is better
  double spread = 0;         // standard deviation of that under the model's posterior
  double score = 0;          // by the rule
  int64_t stratum = 0;       // pairs of the pool that those selected like it stand for
  int64_t pool = 0;          // pairs there were to select from
};

std::string selection_note_text(const SelectionNote& note);
/// Nothing for texts that are no such note.
std::optional<SelectionNote> parse_selection_note(std::string_view acquisition);

/// How often a reward model is right about a whole pool, from answers to the pairs selected from
/// it.
struct PoolAccuracy {
  std::string reward_hash;
  int64_t answers = 0, questions = 0, pool = 0;  // ties are answers that decide nothing
  double asked = 0;                // share right among the questions asked, as they come
  std::optional<double> accuracy;  // share right in the pool; nothing: cannot be told
  std::optional<double> error;     // its standard error
};

/// By reward model, in order of first appearance. What the rule picked stands for itself alone,
/// what was drawn stands for all that the rule left (weights of 1 / propensity, by stratum, so that
/// those not answered yet do no harm). The model's prediction is the one logged with the question,
/// so no answer has trained it. A pool of which a part was never asked, because the rule alone
/// selected or nobody has answered what was drawn, has no accuracy. Several answers to a question
/// are averaged; gold, repeats and experts' decisions are left out, and answers that a later one
/// replaces.
std::vector<PoolAccuracy> pool_accuracy(const Records& records);

}  // namespace hone::data
