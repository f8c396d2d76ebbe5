// Single judgements drawn from held-out data, and how well people agree with each other on it.

#include <algorithm>
#include <cstdlib>
#include <optional>

#include "reward/preference_data.h"
#include "reward/preference_groups.h"
#include "reward/random.h"

namespace hone::reward {
namespace {

int sign(double a, double b) { return (a > b) - (a < b); }

/// Two rated items that one person (same group) or two people (two groups) can compare.
struct DrawnItems {
  const RatedItem* first;
  const RatedItem* second;
};

/// Draws pairs of rated items, and of explicitly compared ones.
class PairSampler {
 public:
  PairSampler(const PreferenceGroups& groups, bool same_person, size_t least_judgements)
      : same_person_(same_person) {
    for (const auto& group : groups.rated) {
      if (group.items.size() > 1) groups_.push_back(&group);
      for (const auto& item : group.items) flat_.push_back({&group, &item});
    }
    for (const auto& group : groups.compared) {
      for (const auto& pair : group.pairs) {
        if (judgements(pair).size() >= least_judgements) compared_.push_back(&pair);
      }
    }
  }
  const std::vector<Judgement>& judgements(const ComparedPair& pair) const {
    return same_person_ ? pair.same_person : pair.across;
  }
  const std::vector<const ComparedPair*>& compared() const { return compared_; }
  bool has_rated() const { return same_person_ ? !groups_.empty() : flat_.size() > 1; }

  /// Nothing when the draw does not fit (one group drawn twice).
  std::optional<DrawnItems> draw_rated(Random& random) const {
    if (same_person_) {
      const auto& items = groups_[random.below(groups_.size())]->items;
      const size_t i = random.below(items.size());
      const size_t j = (i + 1 + random.below(items.size() - 1)) % items.size();
      return DrawnItems{&items[i], &items[j]};
    }
    const auto& a = flat_[random.below(flat_.size())];
    const auto& b = flat_[random.below(flat_.size())];
    if (a.group == b.group || a.group->dimension != b.group->dimension) return std::nullopt;
    return DrawnItems{a.item, b.item};
  }

  /// Signs of the judgements of a pair by different people; across people, ratings of the two
  /// items are put together at random.
  std::vector<int> signs(const DrawnItems& items, Random& random) const {
    std::vector<int> out;
    if (same_person_) {
      const auto& b = items.second->ratings;
      for (const auto& rating : items.first->ratings) {
        const auto other = std::lower_bound(
            b.begin(), b.end(), rating.rater,
            [](const RaterValue& value, int32_t rater) { return value.rater < rater; });
        if (other == b.end() || other->rater != rating.rater) continue;
        out.push_back(sign(rating.value, other->value));
      }
      return out;
    }
    auto a = items.first->values, b = items.second->values;
    random.shuffle(a);
    random.shuffle(b);
    for (size_t k = 0; k < std::min(a.size(), b.size()); ++k) out.push_back(sign(a[k], b[k]));
    return out;
  }
  std::vector<int> signs(const ComparedPair& pair) const {
    std::vector<int> out;
    for (const auto& judgement : judgements(pair)) out.push_back(sign(judgement.target, 0.5));
    return out;
  }

 private:
  struct FlatItem {
    const RatedGroup* group;
    const RatedItem* item;
  };
  bool same_person_;
  std::vector<const RatedGroup*> groups_;
  std::vector<FlatItem> flat_;
  std::vector<const ComparedPair*> compared_;
};

// Draws that do not fit are drawn again; sparse data must not loop for ever.
int64_t most_draws(int64_t count) { return 20 * count + 1000; }

}  // namespace

std::vector<Vote> PreferenceData::votes(bool same_person, int64_t count, uint64_t seed) const {
  const PairSampler sampler(*groups_, same_person, 1);
  Random random(seed, same_person ? 1 : 2);
  std::vector<Vote> votes;
  for (const auto* pair : sampler.compared()) {
    for (const auto& judgement : sampler.judgements(*pair)) {
      votes.push_back({pair->first, pair->second, judgement.target, same_person});
    }
  }
  random.shuffle(votes);
  const int64_t most_compared = sampler.has_rated() ? count / 2 : count;
  if (static_cast<int64_t>(votes.size()) > most_compared) {
    votes.resize(static_cast<size_t>(std::max<int64_t>(0, most_compared)));
  }
  const int64_t draws = sampler.has_rated() ? most_draws(count) : 0;
  for (int64_t d = 0; d < draws && static_cast<int64_t>(votes.size()) < count; ++d) {
    const auto items = sampler.draw_rated(random);
    if (!items) continue;
    const auto signs = sampler.signs(*items, random);
    if (signs.empty()) continue;
    const int one = signs[random.below(signs.size())];
    votes.push_back({items->first->item, items->second->item,
                     one > 0   ? 1.0f
                     : one < 0 ? 0.0f
                               : 0.5f,
                     same_person});
  }
  return votes;
}

PreferenceData::Ceiling PreferenceData::human_ceiling(bool same_person, int64_t count,
                                                      uint64_t seed) const {
  const PairSampler sampler(*groups_, same_person, 2);
  Random random(seed, same_person ? 3 : 4);
  Ceiling ceiling;
  double majority = 0.0;
  int64_t ties = 0, against_majority = 0, agree = 0, both = 0;
  const bool rated = sampler.has_rated(), compared = !sampler.compared().empty();
  const int64_t draws = rated || compared ? most_draws(count) : 0;
  for (int64_t d = 0; d < draws && ceiling.count < count; ++d) {
    std::vector<int> signs;
    if (compared && (!rated || random.below(2) == 0)) {
      signs = sampler.signs(*sampler.compared()[random.below(sampler.compared().size())]);
    } else if (const auto items = sampler.draw_rated(random)) {
      signs = sampler.signs(*items, random);
    }
    if (signs.size() < 2) continue;
    ++ceiling.count;
    const size_t one = random.below(signs.size());
    const size_t two = (one + 1 + random.below(signs.size() - 1)) % signs.size();
    if (signs[one] == 0) {
      ++ties;
      continue;
    }
    int others = -signs[one];
    for (const int s : signs) others += s;
    majority += others == 0 ? 0.5 : (others > 0) == (signs[one] > 0) ? 1.0 : 0.0;
    ++against_majority;
    if (signs[two] != 0) {
      agree += signs[one] == signs[two];
      ++both;
    }
  }
  const auto share = [](double part, int64_t whole) {
    return whole == 0 ? 0.0 : part / static_cast<double>(whole);
  };
  ceiling.person_vs_majority = share(majority, against_majority);
  ceiling.person_vs_person = share(static_cast<double>(agree), both);
  ceiling.tie_rate = share(static_cast<double>(ties), ceiling.count);
  return ceiling;
}

}  // namespace hone::reward
