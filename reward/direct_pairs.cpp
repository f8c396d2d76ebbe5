#include "reward/direct_pairs.h"

#include "reward/preference_groups.h"

namespace hone::reward {
namespace {

struct Votes {
  double first = 0, second = 0;
  int64_t ties = 0;
};

Votes count(const ComparedPair& pair) {
  Votes votes;
  for (const auto* judgements : {&pair.same_person, &pair.across}) {
    for (const auto& judgement : *judgements) {
      votes.first += judgement.target > 0.5f;
      votes.second += judgement.target < 0.5f;
      votes.ties += judgement.target == 0.5f;
    }
  }
  return votes;
}

}  // namespace

DirectPairs direct_pairs(const data::Records& records, const DirectPairOptions& options) {
  PreferenceDataOptions stored;
  stored.split = options.split;
  stored.judgements = Judgements::kComparisons;
  DirectPairs result;
  for (const auto& group : collect_groups(records, stored).compared) {
    for (const auto& pair : group.pairs) {
      const Votes votes = count(pair);
      const double half = options.half_ties ? 0.5 : 0.0;
      DirectPair direct{.first = pair.first, .second = pair.second};
      if (options.majority) {
        const bool even = votes.first == votes.second;
        direct.first_wins = even ? half : votes.first > votes.second;
        direct.second_wins = even ? half : votes.second > votes.first;
      } else {
        direct.first_wins = votes.first + half * static_cast<double>(votes.ties);
        direct.second_wins = votes.second + half * static_cast<double>(votes.ties);
      }
      result.judgements += static_cast<int64_t>(votes.first + votes.second) + votes.ties;
      result.ties += votes.ties;
      if (direct.first_wins + direct.second_wins > 0) result.pairs.push_back(direct);
    }
  }
  return result;
}

}  // namespace hone::reward
