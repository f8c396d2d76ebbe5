#pragma once

#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "data/store.h"

namespace hone::test {

/// Groups of rated items in all three splits; a rater leaves out an item with probability
/// `missing`. Values are small integers, so that ties abound, unless `real`.
inline data::Records random_ratings(unsigned seed, int groups, int items, int raters,
                                    double missing, bool real = false) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform(0.0, 1.0);
  data::Records records;
  for (int g = 0; g < groups; ++g) {
    for (int i = 0; i < items; ++i) {
      data::Item item;
      item.id = "g" + std::to_string(g) + "i" + std::to_string(i);
      item.text = "text " + item.id;
      item.group = "group " + std::to_string(g);
      item.split = static_cast<data::Split>(g % 3);
      for (int r = 0; r < raters; ++r) {
        if (uniform(random) < missing) continue;
        data::Rating rating;
        rating.item = static_cast<int64_t>(records.items.size());
        rating.rater = item.group + "/rater " + std::to_string(r);
        rating.value = real ? uniform(random) : static_cast<double>(random() % 5) - 2.0;
        records.ratings.push_back(rating);
      }
      records.items.push_back(item);
    }
  }
  std::shuffle(records.ratings.begin(), records.ratings.end(), random);
  return records;
}

inline int64_t add_item(data::Records& records, const std::string& group,
                        data::Split split = data::Split::kTrain) {
  data::Item item;
  item.id = "item " + std::to_string(records.items.size());
  item.group = group;
  item.split = split;
  records.items.push_back(item);
  return static_cast<int64_t>(records.items.size()) - 1;
}

inline data::Comparison& add_comparison(data::Records& records, std::vector<int64_t> items,
                                        std::vector<uint8_t> ranks, const std::string& rater = "") {
  data::Comparison comparison;
  comparison.id = "comparison " + std::to_string(records.comparisons.size());
  comparison.items = std::move(items);
  comparison.ranks = std::move(ranks);
  comparison.rater = rater;
  records.comparisons.push_back(comparison);
  return records.comparisons.back();
}

}  // namespace hone::test
