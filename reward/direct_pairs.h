#pragma once

// From stored comparisons to what direct methods (DPO and its family) train on: two answers, and
// how often each of them won.

#include <cstdint>
#include <vector>

#include "data/store.h"

namespace hone::reward {

/// Two compared answers; a tie that counts is half a win of each.
struct DirectPair {
  int64_t first = 0, second = 0;  // indices into Records::items
  double first_wins = 0, second_wins = 0;
};

struct DirectPairOptions {
  data::Split split = data::Split::kTrain;
  /// All judgements of a pair are one, the majority's; else each counts.
  bool majority = false;
  /// A tie (with `majority`: an even split) is half a win of each; else it is left out.
  bool half_ties = false;
};

struct DirectPairs {
  std::vector<DirectPair> pairs;  // by group, then items; none without a win
  int64_t judgements = 0;         // of pairs, ties included
  int64_t ties = 0;               // single judgements without a winner
};

/// Every pair of every stored ordering, judgements of one pair together. Skipped and both-bad
/// answers and ratings leave none. Throws as PreferenceData does.
DirectPairs direct_pairs(const data::Records& records, const DirectPairOptions& options);

}  // namespace hone::reward
