// Who said what, by rater: what the rater model learns from.

#include <algorithm>
#include <unordered_map>

#include "reward/preference_data.h"
#include "reward/preference_groups.h"

namespace hone::reward {
namespace {

// Both neighbours of an item in the order of the group count, so that groups of up to 64 items,
// which meet whole in a batch, are compared in full.
constexpr size_t kReach = 32;

void add_rated(const RatedGroup& group, std::vector<RaterAnswer>& answers) {
  const size_t begin = answers.size(), count = group.items.size();
  std::unordered_map<int32_t, int64_t> items, pairs;  // by rater
  for (const auto& item : group.items) {
    for (const auto& rating : item.ratings) ++items[rating.rater];
  }
  for (size_t i = 0; i < count; ++i) {
    for (size_t j = i + 1; j < count; ++j) {
      if (std::min(j - i, count - (j - i)) > kReach) continue;
      each_common_rater(group.items[i], group.items[j], [&](int32_t rater, int sign) {
        answers.push_back({.first = group.items[i].item,
                           .second = group.items[j].item,
                           .rater = rater,
                           .target = 0.5f * static_cast<float>(1 + sign)});
        ++pairs[rater];
      });
    }
  }
  for (size_t a = begin; a < answers.size(); ++a) {
    const int32_t rater = answers[a].rater;
    answers[a].evidence = static_cast<float>(items[rater] - 1) / static_cast<float>(pairs[rater]);
  }
}

}  // namespace

std::vector<RaterAnswer> PreferenceData::answers() const {
  std::vector<RaterAnswer> answers;
  for (const auto& group : groups_->rated) add_rated(group, answers);
  for (const auto& group : groups_->compared) {
    for (const auto& pair : group.pairs) {
      for (const auto& judgement : pair.same_person) {
        if (judgement.rater < 0) continue;
        answers.push_back({.first = pair.first,
                           .second = pair.second,
                           .rater = judgement.rater,
                           .target = judgement.target,
                           .evidence = judgement.evidence,
                           .first_shown = judgement.first_shown});
      }
    }
  }
  std::stable_sort(answers.begin(), answers.end(),
                   [](const auto& a, const auto& b) { return a.rater < b.rater; });
  return answers;
}

}  // namespace hone::reward
