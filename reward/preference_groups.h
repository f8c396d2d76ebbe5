#pragma once

// What PreferenceData keeps of a store: per group, who said what about which item.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "reward/preference_data.h"

namespace hone::reward {

/// One rater's number for an item. Anonymous ratings (empty pseudonym) carry a negative rater that
/// no other rating shares, so they are compared across people only.
struct RaterValue {
  int32_t rater = 0;
  double value = 0.0;
};

struct RatedItem {
  int64_t item = 0;                 // index into Records::items
  std::vector<RaterValue> ratings;  // by rater, each rater once
  std::vector<double> values;       // the same numbers in rising order
};

/// Items of one group with their ratings on one dimension.
struct RatedGroup {
  int32_t dimension = 0;  // ratings of two dimensions are never compared
  std::vector<RatedItem> items;
};

/// One judgement of a compared pair: the fields of RaterAnswer.
struct Judgement {
  float target = 0.5f;
  int32_t rater = -1;
  float evidence = 1.0f;
  int8_t first_shown = 0;
};

/// All judgements of one unordered pair; `first` < `second`.
struct ComparedPair {
  int64_t first = 0, second = 0;  // indices into Records::items
  std::vector<Judgement> same_person;
  std::vector<Judgement> across;  // put together from two people
  double comparisons = 0;         // PairBatch::comparisons of it
};

struct ComparedGroup {
  std::vector<ComparedPair> pairs;
};

struct PreferenceGroups {
  std::vector<RatedGroup> rated;             // by group name, then dimension
  std::vector<ComparedGroup> compared;       // by group name
  std::vector<int64_t> items;                // every item used, rising
  std::vector<std::string> raters;           // pseudonyms by number
  std::vector<PreferenceData::Known> known;  // by rater
  int64_t judgements = 0;
};

/// Reads the split and the fold out of `records`. Throws data::InputError on indices outside
/// Records::items, ranks that do not fit their items, and numbers that are not finite.
PreferenceGroups collect_groups(const data::Records& records, const PreferenceDataOptions& options);

/// Share of the raters of both items who put `a` above `b`, a tie counting half, and their number.
/// The share is 0.5 when nobody rated both.
std::pair<double, int64_t> share_of_common_raters(const RatedItem& a, const RatedItem& b);

/// Visits (rater, sign of `a`'s number minus `b`'s) of everybody who rated both.
template <class F>
void each_common_rater(const RatedItem& a, const RatedItem& b, const F& visit) {
  auto x = a.ratings.begin();
  auto y = b.ratings.begin();
  while (x != a.ratings.end() && y != b.ratings.end()) {
    if (x->rater < y->rater) {
      ++x;
    } else if (y->rater < x->rater) {
      ++y;
    } else {
      visit(x->rater, (x->value > y->value) - (x->value < y->value));
      ++x, ++y;
    }
  }
}

/// Share of all pairs of one rating of `a` and one of `b` in which `a`'s is higher, ties half.
double share_of_all_pairs(const RatedItem& a, const RatedItem& b);

}  // namespace hone::reward
