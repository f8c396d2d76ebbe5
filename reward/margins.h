#pragma once

// Score differences of votes, as evaluation and routing read them (private).

#include <cstdint>
#include <string>
#include <vector>

#include "data/error.h"
#include "reward/preference_data.h"

namespace hone::reward {

/// Score difference of a vote without tie, turned so that positive is right.
template <class F>
void for_each_margin(const std::vector<float>& scores, const std::vector<Vote>& votes, F&& f) {
  const auto score = [&](int64_t item) {
    if (item < 0 || item >= static_cast<int64_t>(scores.size())) {
      throw data::InputError("evaluation", "vote",
                             "an item index below " + std::to_string(scores.size()),
                             std::to_string(item));
    }
    return static_cast<double>(scores[static_cast<size_t>(item)]);
  };
  for (const auto& vote : votes) {
    if (vote.target == 0.5f) continue;
    const double delta = score(vote.first) - score(vote.second);
    f(vote.target > 0.5f ? delta : -delta);
  }
}

}  // namespace hone::reward
