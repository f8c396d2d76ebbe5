#pragma once

// Records with every field set to something of its own, so that swapped columns are seen.

#include <string>

#include "data/store.h"

namespace hone::data {

inline Provenance full_provenance(int n) {
  return {.source = "source " + std::to_string(n),
          .kind = "same-person",
          .reward_hash = "reward " + std::to_string(n),
          .guideline_hash = "guideline " + std::to_string(n),
          .propensity = 1.0 / (n + 2),
          .served_us = 1000 + n,
          .answered_us = 2000 + n,
          .supersedes = "elsewhere " + std::to_string(n)};
}

inline Item full_item(int n) {
  return {.id = "item " + std::to_string(n),
          .prompt = n % 2 ? R"([{"role":"user","content":"é"}])" : "prompt",
          .text = std::string("text\0with nul ", 14) + std::to_string(n) + " \xe2\x82\xac",
          .prompt_is_messages = n % 2 == 1,
          .group = "group " + std::to_string(n / 2),
          .split = static_cast<Split>(n % 3),
          .source = "set",
          .policy_hash = "policy " + std::to_string(n)};
}

inline Rating full_rating(int64_t item, int n) {
  return {.item = item,
          .rater = "rater " + std::to_string(n),
          .dimension = "kindness",
          .value = -0.1 * n,
          .provenance = full_provenance(n)};
}

inline Comparison full_comparison(std::vector<int64_t> items, int n) {
  Comparison comparison{.id = "comparison " + std::to_string(n),
                        .items = std::move(items),
                        .ranks = {},
                        .shown = {},
                        .outcome = static_cast<Outcome>(n % 3),
                        .strength = static_cast<int8_t>(n % 5),
                        .skip_reason = n % 3 == 2 ? "cannot judge" : "",
                        .rationale = "because " + std::to_string(n),
                        .rater = "rater " + std::to_string(n),
                        .provenance = full_provenance(n)};
  const auto k = comparison.items.size();
  for (std::size_t i = 0; i < k; ++i) {
    if (comparison.outcome == Outcome::kOrdered) {
      comparison.ranks.push_back(static_cast<uint8_t>(i / 2));
    }
    comparison.shown.push_back(static_cast<uint8_t>(k - 1 - i));
  }
  return comparison;
}

inline Demonstration full_demonstration(int n) {
  return {.id = "demonstration " + std::to_string(n),
          .prompt = "say " + std::to_string(n),
          .completion = "said",
          .prompt_is_messages = false,
          .group = "group",
          .split = Split::kTest,
          .rater = "writer",
          .weight = 0.5,
          .provenance = full_provenance(n)};
}

/// Six items, two ratings, three comparisons (k = 2, 3, 4), one demonstration.
inline void add_full_records(StoreWriter& writer) {
  for (int n = 0; n < 6; ++n) writer.add_item(full_item(n));
  for (int n = 0; n < 2; ++n) writer.add_rating(full_rating(n, n));
  writer.add_comparison(full_comparison({0, 5}, 0));
  writer.add_comparison(full_comparison({1, 2, 3}, 1));
  writer.add_comparison(full_comparison({5, 4, 3, 2}, 3));
  writer.add_demonstration(full_demonstration(0));
}

}  // namespace hone::data
