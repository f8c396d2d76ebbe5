#include "data/summary.h"

#include <algorithm>
#include <set>

namespace hone::data {
namespace {

bool has_tie(const std::vector<uint8_t>& ranks) {
  std::vector<uint8_t> sorted = ranks;
  std::sort(sorted.begin(), sorted.end());
  return std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end();
}

class Counter {
 public:
  explicit Counter(StoreSummary& summary) : summary_(summary) {}

  void count(const Item& item) {
    groups_.insert(item.group);
    ++summary_.items_by_split[split_name(item.split)];
    ++summary_.items_by_source[item.source];
  }
  void count(const Rating& rating) { count_answer(rating.rater, rating.provenance); }
  void count(const Comparison& comparison) {
    count_answer(comparison.rater, comparison.provenance);
    summary_.without_rater += comparison.rater.empty();
    ++summary_.comparisons_by_size[comparison.items.size()];
    ++summary_.comparisons_by_kind[comparison.provenance.kind];
    switch (comparison.outcome) {
      case Outcome::kOrdered:
        ++(has_tie(comparison.ranks) ? summary_.with_ties : summary_.strict);
        break;
      case Outcome::kBothBad:
        ++summary_.both_bad;
        break;
      case Outcome::kSkipped:
        ++summary_.skipped;
        break;
    }
  }
  void count(const Demonstration& demonstration) {
    count_answer(demonstration.rater, demonstration.provenance);
    groups_.insert(demonstration.group);
    ++summary_.demonstrations_by_split[split_name(demonstration.split)];
  }
  void finish() {
    summary_.groups = groups_.size();
    summary_.raters = raters_.size();
  }

 private:
  void count_answer(const std::string& rater, const Provenance& provenance) {
    if (!rater.empty()) raters_.insert(rater);
    ++summary_.answers_by_source[provenance.source];
    const int64_t time = provenance.answered_us;
    if (time == 0) return;
    const bool first = summary_.first_answer_us == 0;
    summary_.first_answer_us = first ? time : std::min(summary_.first_answer_us, time);
    summary_.last_answer_us = std::max(summary_.last_answer_us, time);
  }

  StoreSummary& summary_;
  std::set<std::string> groups_, raters_;
};

}  // namespace

std::string split_name(Split split) {
  switch (split) {
    case Split::kValidation:
      return "validation";
    case Split::kTest:
      return "test";
    default:
      return "train";
  }
}

StoreSummary summarize(const Store& store) {
  StoreSummary summary;
  summary.segments = store.segments();
  summary.hash = store.hash();
  for (const SegmentInfo& segment : summary.segments) summary.bytes += segment.bytes;
  const Records records = store.read();
  summary.items = records.items.size();
  summary.ratings = records.ratings.size();
  summary.comparisons = records.comparisons.size();
  summary.demonstrations = records.demonstrations.size();
  summary.answers = records.answers.size();
  Counter counter(summary);
  for (const Item& item : records.items) counter.count(item);
  for (const Rating& rating : records.ratings) counter.count(rating);
  for (const Comparison& comparison : records.comparisons) counter.count(comparison);
  for (const Demonstration& demonstration : records.demonstrations) counter.count(demonstration);
  counter.finish();
  return summary;
}

}  // namespace hone::data
