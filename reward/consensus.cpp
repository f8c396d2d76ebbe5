// What most people said of pairs that share no item.

#include <unordered_set>

#include "reward/preference_data.h"
#include "reward/preference_groups.h"
#include "reward/random.h"

namespace hone::reward {
namespace {

constexpr uint64_t kStream = 5;  // of draws; votes and ceilings have 1 to 4

/// Counts a judgement for the first (target 1) or second item.
void count(float target, int64_t& balance) { balance += (target > 0.5f) - (target < 0.5f); }

/// How many more of the people who rated both put `a` higher.
int64_t balance_of(const RatedItem& a, const RatedItem& b) {
  int64_t balance = 0;
  each_common_rater(a, b, [&](int32_t, int sign) { balance += sign; });
  return balance;
}

}  // namespace

std::vector<Vote> PreferenceData::consensus(uint64_t seed) const {
  Random random(seed, kStream);
  std::vector<Vote> votes;
  std::unordered_set<int64_t> used;
  const auto add = [&](int64_t first, int64_t second, int64_t balance) {
    if (balance == 0) return;
    used.insert({first, second});
    votes.push_back({first, second, balance > 0 ? 1.0f : 0.0f, true});
  };
  const auto is_free = [&](int64_t item) { return !used.contains(item); };
  std::vector<const ComparedPair*> compared;
  for (const auto& group : groups_->compared) {
    for (const auto& pair : group.pairs) compared.push_back(&pair);
  }
  random.shuffle(compared);
  for (const auto* pair : compared) {
    if (!is_free(pair->first) || !is_free(pair->second)) continue;
    int64_t balance = 0;
    for (const auto* judgements : {&pair->same_person, &pair->across}) {
      for (const auto& judgement : *judgements) count(judgement.target, balance);
    }
    add(pair->first, pair->second, balance);
  }
  for (const auto& group : groups_->rated) {
    std::vector<const RatedItem*> items;
    for (const auto& item : group.items) {
      if (is_free(item.item)) items.push_back(&item);
    }
    random.shuffle(items);
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      add(items[i]->item, items[i + 1]->item, balance_of(*items[i], *items[i + 1]));
    }
  }
  random.shuffle(votes);
  return votes;
}

}  // namespace hone::reward
