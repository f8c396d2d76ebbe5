#include <algorithm>
#include <cmath>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "data/error.h"
#include "reward/preference_data.h"
#include "reward/preference_groups.h"
#include "reward/random.h"

namespace hone::reward {
namespace {

// A larger group is dealt into random parts of this many items each epoch: pairs grow with the
// square, and 64 items already make 2,016.
constexpr size_t kPartItems = 64;

/// Items of one group that meet in one batch.
struct RatedPart {
  int32_t dimension = 0;
  std::vector<const RatedItem*> items;
};

/// What one batch is made of: rated parts, or compared pairs.
struct BatchPlan {
  std::vector<RatedPart> parts;
  std::vector<const ComparedPair*> pairs;
};

/// Positions of items in a batch, each once.
class BatchItems {
 public:
  explicit BatchItems(PairBatch& batch) : batch_(batch) {}
  int32_t operator()(int64_t item) {
    const auto [at, added] = places_.emplace(item, static_cast<int32_t>(batch_.items.size()));
    if (added) batch_.items.push_back(item);
    return at->second;
  }

 private:
  PairBatch& batch_;
  std::unordered_map<int64_t, int32_t> places_;
};

void plan_ratings(const PreferenceGroups& groups, size_t groups_per_batch, Random& random,
                  std::vector<BatchPlan>& plans) {
  std::vector<RatedPart> parts;
  for (const auto& group : groups.rated) {
    std::vector<const RatedItem*> items;
    for (const auto& item : group.items) items.push_back(&item);
    const size_t count = (items.size() + kPartItems - 1) / kPartItems;
    if (count > 1) random.shuffle(items);
    for (size_t p = 0; p < count; ++p) {
      parts.push_back({group.dimension,
                       {items.begin() + static_cast<int64_t>(items.size() * p / count),
                        items.begin() + static_cast<int64_t>(items.size() * (p + 1) / count)}});
    }
  }
  random.shuffle(parts);
  // Nearly equal batches instead of full ones and a small rest, whose gradient would be noisy.
  const size_t batches = (parts.size() + groups_per_batch - 1) / groups_per_batch;
  for (size_t b = 0; b < batches; ++b) {
    BatchPlan plan;
    for (size_t p = parts.size() * b / batches; p < parts.size() * (b + 1) / batches; ++p) {
      plan.parts.push_back(std::move(parts[p]));
    }
    plans.push_back(std::move(plan));
  }
}

/// Pairs of a group in an order that keeps the pairs of one item together, so that a group too
/// large for one batch still uses each forwarded text many times.
std::vector<const ComparedPair*> order_pairs(const ComparedGroup& group, Random& random) {
  std::vector<int64_t> items;
  for (const auto& pair : group.pairs) items.insert(items.end(), {pair.first, pair.second});
  std::sort(items.begin(), items.end());
  items.erase(std::unique(items.begin(), items.end()), items.end());
  random.shuffle(items);
  std::unordered_map<int64_t, size_t> rank;
  for (size_t i = 0; i < items.size(); ++i) rank[items[i]] = i;
  std::vector<std::pair<std::pair<size_t, size_t>, const ComparedPair*>> ordered;
  for (const auto& pair : group.pairs) {
    ordered.push_back({std::minmax(rank[pair.first], rank[pair.second]), &pair});
  }
  std::sort(ordered.begin(), ordered.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<const ComparedPair*> pairs;
  for (const auto& [key, pair] : ordered) pairs.push_back(pair);
  return pairs;
}

void plan_comparisons(const PreferenceGroups& groups, size_t items_per_batch, Random& random,
                      std::vector<BatchPlan>& plans) {
  std::vector<std::vector<const ComparedPair*>> ordered;
  for (const auto& group : groups.compared) ordered.push_back(order_pairs(group, random));
  random.shuffle(ordered);
  BatchPlan plan;
  std::unordered_set<int64_t> items;
  const auto close = [&] {
    if (!plan.pairs.empty()) plans.push_back(std::move(plan));
    plan = {};
    items.clear();
  };
  for (const auto& pairs : ordered) {
    std::unordered_set<int64_t> together = items;
    for (const auto* pair : pairs) together.insert({pair->first, pair->second});
    if (together.size() > items_per_batch) close();
    for (const auto* pair : pairs) {
      const size_t fresh = !items.contains(pair->first) + !items.contains(pair->second);
      if (items.size() + fresh > items_per_batch) close();
      items.insert({pair->first, pair->second});
      plan.pairs.push_back(pair);
    }
  }
  close();
}

std::vector<BatchPlan> plan_epoch(const PreferenceGroups& groups,
                                  const PreferenceDataOptions& options, uint64_t seed,
                                  int64_t epoch) {
  Random random(seed, static_cast<uint64_t>(epoch));
  std::vector<BatchPlan> plans;
  plan_ratings(groups, static_cast<size_t>(options.groups_per_batch), random, plans);
  plan_comparisons(groups, static_cast<size_t>(options.items_per_batch), random, plans);
  random.shuffle(plans);
  return plans;
}

/// Means over the pairs of each part, averaged with the parts' weights.
class WeightedParts {
 public:
  explicit WeightedParts(std::vector<Pair>& pairs) : pairs_(pairs) {}
  /// Pairs appended since the last call are one part.
  void end_part(double weight) {
    const size_t count = pairs_.size() - begin_;
    for (size_t p = begin_; p < pairs_.size(); ++p) {
      pairs_[p].weight = static_cast<float>(weight / static_cast<double>(count));
    }
    if (count > 0) total_ += weight;
    begin_ = pairs_.size();
  }
  void normalize() {
    for (auto& pair : pairs_) pair.weight = static_cast<float>(pair.weight / total_);
  }

 private:
  std::vector<Pair>& pairs_;
  size_t begin_ = 0;
  double total_ = 0.0;
};

/// Of one part: a rater's first number is only where their scale begins.
double comparisons_in(const RatedPart& part) {
  std::unordered_set<int32_t> raters;
  double ratings = 0.0;
  for (const auto* item : part.items) {
    for (const auto& rating : item->ratings) {
      if (rating.rater >= 0) raters.insert(rating.rater);
    }
    ratings += static_cast<double>(item->ratings.size());
  }
  return ratings - static_cast<double>(raters.size());
}

PairBatch rated_batch(const std::vector<RatedPart>& parts, const PreferenceDataOptions& options) {
  const double across_weight = options.across_weight;
  PairBatch batch;
  batch.rated = true;
  for (const auto& part : parts) batch.comparisons += comparisons_in(part);
  BatchItems place(batch);
  WeightedParts weights(batch.pairs);
  std::vector<std::vector<int32_t>> places(parts.size());
  for (size_t p = 0; p < parts.size(); ++p) {
    for (const auto* item : parts[p].items) places[p].push_back(place(item->item));
  }
  for (size_t p = 0; p < parts.size(); ++p) {
    const auto& items = parts[p].items;
    std::unordered_map<int32_t, int64_t> rated;  // items by rater
    for (const auto* item : items) {
      for (const auto& rating : item->ratings) rated[rating.rater] += options.answers;
    }
    for (size_t i = 0; i < items.size(); ++i) {
      for (size_t j = i + 1; j < items.size(); ++j) {
        const auto [share, raters] = share_of_common_raters(*items[i], *items[j]);
        if (raters == 0) continue;
        if (options.answers) {
          const auto pair = static_cast<int32_t>(batch.pairs.size());
          each_common_rater(*items[i], *items[j], [&](int32_t rater, int sign) {
            batch.answers.push_back({pair, rater, 0.5f * static_cast<float>(1 + sign),
                                     2.0f / static_cast<float>(rated[rater]), 0});
          });
        }
        batch.pairs.push_back({places[p][i], places[p][j], static_cast<float>(share), 0.0f});
      }
    }
    weights.end_part(1.0);
    for (size_t q = 0; q < p && across_weight > 0.0; ++q) {
      if (parts[q].dimension != parts[p].dimension) continue;
      for (size_t i = 0; i < parts[q].items.size(); ++i) {
        for (size_t j = 0; j < items.size(); ++j) {
          const double share = share_of_all_pairs(*parts[q].items[i], *items[j]);
          batch.pairs.push_back({places[q][i], places[p][j], static_cast<float>(share), 0.0f});
        }
      }
      weights.end_part(across_weight);
    }
  }
  weights.normalize();
  return batch;
}

PairBatch compared_batch(const std::vector<const ComparedPair*>& pairs, bool answers) {
  PairBatch batch;
  BatchItems place(batch);
  double total = 0.0;
  for (const auto* pair : pairs) {
    double sum = 0.0;
    for (const auto* judgements : {&pair->same_person, &pair->across}) {
      for (const auto& judgement : *judgements) {
        sum += judgement.target;
        if (!answers) continue;
        batch.answers.push_back({static_cast<int32_t>(batch.pairs.size()), judgement.rater,
                                 judgement.target, judgement.evidence, judgement.first_shown});
      }
    }
    const auto count = static_cast<double>(pair->same_person.size() + pair->across.size());
    const int32_t first = place(pair->first), second = place(pair->second);
    batch.pairs.push_back(
        {first, second, static_cast<float>(sum / count), static_cast<float>(count)});
    total += count;
    batch.comparisons += pair->comparisons;
  }
  for (auto& pair : batch.pairs) pair.weight = static_cast<float>(pair.weight / total);
  return batch;
}

void check_at_least(const char* option, int64_t value, int64_t least) {
  if (value >= least) return;
  throw data::InputError("preference data", option, "at least " + std::to_string(least),
                         std::to_string(value));
}

}  // namespace

PreferenceData::PreferenceData(const data::Records& records, PreferenceDataOptions options)
    : options_(options) {
  check_at_least("groups_per_batch", options.groups_per_batch, 1);
  check_at_least("items_per_batch", options.items_per_batch, 2);
  if (!(options.across_weight >= 0.0) || !std::isfinite(options.across_weight)) {
    throw data::InputError("preference data", "across_weight", "a finite number, 0 or more",
                           std::to_string(options.across_weight));
  }
  groups_ = std::make_shared<const PreferenceGroups>(collect_groups(records, options));
}

int64_t PreferenceData::batches_per_epoch() const {
  return static_cast<int64_t>(plan_epoch(*groups_, options_, 0, 0).size());
}

std::vector<PairBatch> PreferenceData::epoch(uint64_t seed, int64_t epoch) const {
  std::vector<PairBatch> batches;
  for (const auto& plan : plan_epoch(*groups_, options_, seed, epoch)) {
    auto batch = plan.pairs.empty() ? rated_batch(plan.parts, options_)
                                    : compared_batch(plan.pairs, options_.answers);
    if (!batch.pairs.empty()) batches.push_back(std::move(batch));
  }
  return batches;
}

int64_t PreferenceData::raters() const { return static_cast<int64_t>(groups_->raters.size()); }
const std::vector<std::string>& PreferenceData::rater_names() const { return groups_->raters; }
const std::vector<PreferenceData::Known>& PreferenceData::known() const { return groups_->known; }
int64_t PreferenceData::judgements() const { return groups_->judgements; }
const std::vector<int64_t>& PreferenceData::items() const { return groups_->items; }

}  // namespace hone::reward
