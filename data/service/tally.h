#pragma once

// Answers counted: each in the light of what the same rater and the others said of the same things.

#include <map>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "data/service/seen_answer.h"

namespace hone::data::service {

using Answers = std::vector<const SeenAnswer*>;

double median_seconds(std::span<const SeenAnswer* const> answers);

/// What most people said of each thing that has two sides: orders, yes or no, steps.
class Consensus {
 public:
  explicit Consensus(const Answers& answers);
  /// Is the answer on the side of most of the others: true in most of what it says that others
  /// decided too. Nothing: nobody else did, or they are divided.
  std::optional<bool> is_with_others(const SeenAnswer& answer) const;

 private:
  std::unordered_map<uint64_t, int64_t> sums_;  // of signs
};

/// The rater's own earlier answer to a question that came again. Answers come in order.
class FirstTimes {
 public:
  const SeenAnswer* before(const SeenAnswer& answer);

 private:
  std::map<std::pair<std::string, uint64_t>, const SeenAnswer*> first_;
};

struct Judged {
  const SeenAnswer* answer;
  const SeenAnswer* first_time;
  std::optional<bool> with_others;
};

struct Tally {
  int64_t answers = 0, ties = 0, skips = 0, both_bad = 0, flagged = 0;
  int64_t gold = 0, gold_right = 0, pairs = 0, left = 0, repeats = 0, repeats_same = 0;
  int64_t others = 0, others_same = 0;

  void add(const Judged& judged);
};

}  // namespace hone::data::service
