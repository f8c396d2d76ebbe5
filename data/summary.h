#pragma once

// What is in a store, in the figures that a person asks for first.

#include <cstdint>
#include <map>
#include <string>

#include "data/store.h"

namespace hone::data {

struct StoreSummary {
  std::vector<SegmentInfo> segments;
  std::string hash;
  uint64_t bytes = 0;
  uint64_t items = 0, ratings = 0, comparisons = 0, demonstrations = 0;
  uint64_t answers = 0;        // given at the page, whatever their kind
  uint64_t groups = 0;         // of items and demonstrations
  uint64_t raters = 0;         // distinct pseudonyms over all kinds
  uint64_t without_rater = 0;  // comparisons that name none
  /// Comparisons: ordered ones without any tie, with one, both bad, skipped.
  uint64_t strict = 0, with_ties = 0, both_bad = 0, skipped = 0;
  std::map<std::size_t, uint64_t> comparisons_by_size;  // k -> count
  std::map<std::string, uint64_t> comparisons_by_kind;  // Provenance::kind -> count
  std::map<std::string, uint64_t> items_by_split, demonstrations_by_split;
  std::map<std::string, uint64_t> items_by_source, answers_by_source;
  int64_t first_answer_us = 0, last_answer_us = 0;  // 0: no answer has a time
};

/// Reads the whole store. Throws as Store::read. Superseded answers are not counted.
StoreSummary summarize(const Store& store);

/// "train", "validation" or "test".
std::string split_name(Split split);

}  // namespace hone::data
