#include "reward/preference_groups.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include "data/error.h"

namespace hone::reward {
namespace {

using data::Comparison;
using data::InputError;
using data::Records;

/// FNV-1a: which half an answer without a pseudonym belongs to.
uint64_t text_hash(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash ^ (hash >> 32);
}

const data::Item& item_of(const Records& records, int64_t index, const char* what) {
  if (index < 0 || index >= static_cast<int64_t>(records.items.size())) {
    throw InputError("preference data", what,
                     "an item index below " + std::to_string(records.items.size()),
                     std::to_string(index));
  }
  return records.items[static_cast<size_t>(index)];
}

bool across_people(const Comparison& comparison) {
  return comparison.provenance.kind == "across-people";
}

/// A comparison that can be used: in the split, ordered, and well formed.
bool usable(const Records& records, const Comparison& comparison, data::Split split) {
  bool inside = true;
  for (const int64_t item : comparison.items) {
    inside = item_of(records, item, "comparison").split == split && inside;
  }
  if (comparison.outcome != data::Outcome::kOrdered || comparison.items.size() < 2) return false;
  if (comparison.ranks.size() != comparison.items.size()) {
    throw InputError("preference data", "comparison " + comparison.id,
                     "one rank for each of " + std::to_string(comparison.items.size()) + " items",
                     std::to_string(comparison.ranks.size()));
  }
  return inside;
}

/// Decides whether a rater's, or an anonymous answer's, judgements are in the fold.
class FoldFilter {
 public:
  FoldFilter(const Records& records, const PreferenceDataOptions& options) : fold_(options.fold) {
    if (fold_ == RaterFold::kAll) return;
    std::map<std::string_view, std::set<std::string_view>> raters;
    for (const auto& rating : records.ratings) {
      const auto& item = item_of(records, rating.item, "rating");
      if (item.split == options.split && !rating.rater.empty()) {
        raters[item.group].insert(rating.rater);
      }
    }
    for (const auto& comparison : records.comparisons) {
      if (!usable(records, comparison, options.split) || comparison.rater.empty()) continue;
      raters[records.items[static_cast<size_t>(comparison.items[0])].group].insert(
          comparison.rater);
    }
    for (const auto& [group, names] : raters) {
      size_t index = 0;
      for (const auto& name : names) parity_[group].emplace(name, index++ % 2 == 1);
    }
  }
  bool keeps(std::string_view group, std::string_view rater, std::string_view answer) const {
    if (fold_ == RaterFold::kAll) return true;
    const bool odd = rater.empty() ? text_hash(answer) % 2 == 1 : parity_.at(group).at(rater);
    return odd == (fold_ == RaterFold::kOdd);
  }

 private:
  RaterFold fold_;
  std::unordered_map<std::string_view, std::unordered_map<std::string_view, bool>> parity_;
};

/// Numbers for names in order of first appearance.
class Numbering {
 public:
  int32_t operator()(std::string_view name) {
    return numbers_.emplace(name, static_cast<int32_t>(numbers_.size())).first->second;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> names(numbers_.size());
    for (const auto& [name, number] : numbers_) names[static_cast<size_t>(number)] = name;
    return names;
  }
  std::optional<int32_t> find(std::string_view name) const {
    const auto found = numbers_.find(name);
    return found == numbers_.end() ? std::nullopt : std::optional(found->second);
  }

 private:
  std::unordered_map<std::string_view, int32_t> numbers_;
};

void finish(RatedItem& item) {
  // A later rating by the same person replaces the earlier one.
  std::stable_sort(item.ratings.begin(), item.ratings.end(),
                   [](const auto& a, const auto& b) { return a.rater < b.rater; });
  std::vector<RaterValue> last;
  for (const auto& rating : item.ratings) {
    if (!last.empty() && last.back().rater == rating.rater) last.pop_back();
    last.push_back(rating);
  }
  item.ratings = std::move(last);
  for (const auto& rating : item.ratings) item.values.push_back(rating.value);
  std::sort(item.values.begin(), item.values.end());
}

void collect_ratings(const Records& records, const PreferenceDataOptions& options,
                     const FoldFilter& fold, Numbering& raters, PreferenceGroups& groups) {
  Numbering dimensions;
  std::map<std::tuple<std::string_view, std::string_view>, std::map<int64_t, RatedItem>> found;
  int32_t anonymous = 0;
  for (const auto& rating : records.ratings) {
    const auto& item = item_of(records, rating.item, "rating");
    if (item.split != options.split || !fold.keeps(item.group, rating.rater, item.id)) continue;
    if (!std::isfinite(rating.value)) {
      throw InputError("preference data", "rating of item " + item.id, "a finite number",
                       std::to_string(rating.value));
    }
    auto& rated = found[{item.group, rating.dimension}][rating.item];
    rated.item = rating.item;
    const int32_t rater = rating.rater.empty() ? --anonymous : raters(rating.rater);
    rated.ratings.push_back({rater, rating.value});
  }
  for (auto& [key, items] : found) {
    RatedGroup group{.dimension = dimensions(std::get<1>(key)), .items = {}};
    for (auto& [index, item] : items) {
      finish(item);
      groups.judgements += static_cast<int64_t>(item.ratings.size());
      group.items.push_back(std::move(item));
    }
    groups.rated.push_back(std::move(group));
  }
}

/// A gold question, answered as expected or not.
bool answer_is_known(const data::Answer& answer) {
  constexpr int8_t kGold = 1;
  return answer.purpose == kGold && answer.same >= 0;
}

/// The place on the screen of each item; all 0 where it is not known.
std::vector<size_t> places_shown(const Comparison& comparison) {
  std::vector<size_t> places(comparison.items.size(), 0);
  if (comparison.shown.size() != places.size()) return places;
  for (size_t p = 0; p < places.size(); ++p) {
    if (comparison.shown[p] >= places.size()) {
      throw InputError("preference data", "comparison " + comparison.id,
                       "an order shown of its " + std::to_string(places.size()) + " items",
                       "place " + std::to_string(comparison.shown[p]));
    }
    places[comparison.shown[p]] = p;
  }
  return places;
}

void collect_comparisons(const Records& records, const PreferenceDataOptions& options,
                         const FoldFilter& fold, Numbering& raters, PreferenceGroups& groups) {
  std::map<std::string_view, std::map<std::pair<int64_t, int64_t>, ComparedPair>> found;
  const bool collected_only = options.judgements == Judgements::kRatingsAndCollected;
  std::unordered_set<std::string_view> known;
  for (const auto& answer : records.answers) {
    if (answer_is_known(answer)) known.insert(answer.id);
  }
  for (const auto& comparison : records.comparisons) {
    if (collected_only && !is_collected(comparison)) continue;
    if (!usable(records, comparison, options.split)) continue;
    const auto& items = comparison.items;
    const std::string_view group = records.items[static_cast<size_t>(items[0])].group;
    if (!fold.keeps(group, comparison.rater, comparison.id)) continue;
    const int32_t rater = comparison.rater.empty() ? -1 : raters(comparison.rater);
    const auto places = places_shown(comparison);
    const float evidence =
        known.contains(comparison.id) ? 0.0f : 2.0f / static_cast<float>(items.size());
    for (size_t j = 1; j < items.size(); ++j) {
      for (size_t i = 0; i < j; ++i) {
        if (items[i] == items[j]) continue;
        const auto [low, high] = std::minmax(items[i], items[j]);
        const int order = static_cast<int>(comparison.ranks[j]) - comparison.ranks[i];
        const float better = order > 0 ? 1.0f : order < 0 ? 0.0f : 0.5f;  // i over j
        auto& pair = found[group][{low, high}];
        pair.first = low;
        pair.second = high;
        auto& judgements = across_people(comparison) ? pair.across : pair.same_person;
        const int earlier = (places[i] < places[j]) - (places[i] > places[j]);
        judgements.push_back(
            {.target = items[i] == low ? better : 1.0f - better,
             .rater = rater,
             .evidence = evidence,
             .first_shown = static_cast<int8_t>(items[i] == low ? earlier : -earlier)});
        pair.comparisons += 2.0 / static_cast<double>(items.size());
        ++groups.judgements;
      }
    }
  }
  for (auto& [name, pairs] : found) {
    ComparedGroup group;
    for (auto& [key, pair] : pairs) group.pairs.push_back(std::move(pair));
    groups.compared.push_back(std::move(group));
  }
}

}  // namespace

bool is_collected(const Comparison& comparison) {
  return comparison.provenance.source == "collect";
}

PreferenceGroups collect_groups(const data::Records& records,
                                const PreferenceDataOptions& options) {
  PreferenceGroups groups;
  const FoldFilter fold(records, options);
  Numbering raters;
  if (options.judgements != Judgements::kComparisons) {
    collect_ratings(records, options, fold, raters, groups);
  }
  if (options.judgements != Judgements::kRatings) {
    collect_comparisons(records, options, fold, raters, groups);
  }
  groups.raters = raters.names();
  groups.known.resize(groups.raters.size());
  for (const auto& answer : records.answers) {
    const auto rater = answer_is_known(answer) ? raters.find(answer.rater) : std::nullopt;
    if (!rater) continue;
    auto& known = groups.known[static_cast<size_t>(*rater)];
    ++(answer.same == 1 ? known.right : known.wrong);
  }
  std::set<int64_t> used;
  for (const auto& group : groups.rated) {
    for (const auto& item : group.items) used.insert(item.item);
  }
  for (const auto& group : groups.compared) {
    for (const auto& pair : group.pairs) used.insert({pair.first, pair.second});
  }
  groups.items.assign(used.begin(), used.end());
  return groups;
}

std::pair<double, int64_t> share_of_common_raters(const RatedItem& a, const RatedItem& b) {
  int64_t halves = 0, count = 0;  // half points for `a`
  each_common_rater(a, b, [&](int32_t, int sign) {
    halves += 1 + sign;
    ++count;
  });
  if (count == 0) return {0.5, 0};
  return {static_cast<double>(halves) / static_cast<double>(2 * count), count};
}

double share_of_all_pairs(const RatedItem& a, const RatedItem& b) {
  // For each rating of `a`, how many of `b`'s are below it and how many are not above it: two
  // pointers that only move up, O(|a| + |b|).
  int64_t halves = 0;
  size_t below = 0, not_above = 0;
  for (const double value : a.values) {
    while (below < b.values.size() && b.values[below] < value) ++below;
    while (not_above < b.values.size() && b.values[not_above] <= value) ++not_above;
    halves += static_cast<int64_t>(below + not_above);
  }
  const auto pairs = static_cast<int64_t>(a.values.size() * b.values.size());
  return pairs == 0 ? 0.5 : static_cast<double>(halves) / static_cast<double>(2 * pairs);
}

}  // namespace hone::reward
