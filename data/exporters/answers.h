#pragma once

// The answers of a store that an export is to hold: filtered, without those that later ones
// supersede, one at a time in the store's order.

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "data/exchange.h"
#include "data/store_view.h"

namespace hone::data {

struct ComparisonRef {
  const hdf5::Rows<Comparison>* rows;
  int64_t row;
  std::span<const int64_t> items;
  std::span<const uint8_t> ranks, shown;
  Outcome outcome;
};

class Answers {
 public:
  /// Throws InputError for a filter that cannot be.
  Answers(const StoreView& view, const ExportFilter& filter);

  const StoreView& view() const { return view_; }

  /// visit(const ComparisonRef&)
  template <class Visitor>
  void comparisons(Visitor&& visit) const;
  /// visit(better, worse, comparison): every pair that an ordering decides.
  template <class Visitor>
  void pairs(Visitor&& visit) const;
  /// visit(rows, row)
  template <class Visitor>
  void demonstrations(Visitor&& visit) const;
  template <class Visitor>
  void ratings(Visitor&& visit) const;
  /// visit(item, approved, rows of answers, row): yes or no of a person to one output.
  template <class Visitor>
  void reviews(Visitor&& visit) const;

 private:
  template <class Record>
  bool keeps_provenance(const hdf5::Rows<Record>& rows, int64_t row, bool item_source_fits) const;
  /// id -> position in the store of the last record that supersedes it
  using Superseded = std::unordered_map<std::string_view, int64_t>;
  template <class Record>
  static void find_superseded(const hdf5::Rows<Record>& rows, int64_t first,
                              Superseded& superseded);
  template <class Record>
  static bool is_superseded(const hdf5::Rows<Record>& rows, int64_t row, int64_t position,
                            const Superseded& superseded);
  template <class Record>
  static std::string person_and_time(const hdf5::Rows<Record>& rows, int64_t row);
  void find_answers();
  bool keeps_kind(std::string_view kind) const;
  bool keeps_item(const ItemRef& item, bool& source_fits) const;
  bool keeps(const ComparisonRef& comparison) const;
  ComparisonRef reference(const hdf5::Rows<Comparison>& rows, int64_t row) const;

  const StoreView& view_;
  const ExportFilter& filter_;
  int split_ = -1;
  std::unordered_set<std::string_view> kinds_, raters_;
  std::unordered_set<std::string> of_project_;  // rater and time of the project's answers
  // id -> the answer that a review belongs to
  struct AnswerPlace {
    const hdf5::Rows<Answer>* rows;
    int64_t row;
  };
  std::unordered_map<std::string_view, AnswerPlace> reviewers_;
  Superseded superseded_comparisons_, superseded_demonstrations_;
};

/// Rows<Record>::column, looked up once for each record and field.
#define HONE_FIELD(Record, field)                                         \
  ([] {                                                                   \
    static const std::size_t column = hdf5::Rows<Record>::column(#field); \
    return column;                                                        \
  }())

/// One person gives one answer in a microsecond: what joins an answer and its records.
template <class Record>
std::string Answers::person_and_time(const hdf5::Rows<Record>& rows, int64_t row) {
  std::string key(rows.text(HONE_FIELD(Record, rater), row));
  key += ' ';
  key += std::to_string(rows.template value<int64_t>(HONE_FIELD(Record, answered_us), row));
  return key;
}

template <class Record>
bool Answers::keeps_provenance(const hdf5::Rows<Record>& rows, int64_t row,
                               bool item_source_fits) const {
  if (!filter_.source.empty() && !item_source_fits &&
      rows.text(HONE_FIELD(Record, source), row) != filter_.source) {
    return false;
  }
  if (!raters_.empty() && raters_.count(rows.text(HONE_FIELD(Record, rater), row)) == 0) {
    return false;
  }
  if (!filter_.project.empty() && of_project_.count(person_and_time(rows, row)) == 0) return false;
  if (filter_.since_us == 0 && filter_.until_us == 0) return true;
  const auto time = rows.template value<int64_t>(HONE_FIELD(Record, answered_us), row);
  return time != 0 && time >= filter_.since_us &&
         (filter_.until_us == 0 || time < filter_.until_us);
}

template <class Record>
void Answers::find_superseded(const hdf5::Rows<Record>& rows, int64_t first,
                              Superseded& superseded) {
  const std::size_t column = HONE_FIELD(Record, supersedes);
  if (rows.is_empty(column)) return;
  for (int64_t row = 0; row < rows.size(); ++row) {
    const std::string_view id = rows.text(column, row);
    if (!id.empty()) superseded[id] = first + row;
  }
}

template <class Record>
bool Answers::is_superseded(const hdf5::Rows<Record>& rows, int64_t row, int64_t position,
                            const Superseded& superseded) {
  if (superseded.empty()) return false;
  const auto found = superseded.find(rows.text(HONE_FIELD(Record, id), row));
  return found != superseded.end() && found->second > position;
}

template <class Visitor>
void Answers::comparisons(Visitor&& visit) const {
  int64_t first = 0;
  for (const SegmentRows& segment : view_.segments()) {
    const auto& rows = segment.comparisons;
    for (int64_t row = 0; row < rows.size(); ++row) {
      if (is_superseded(rows, row, first + row, superseded_comparisons_)) continue;
      const ComparisonRef comparison = reference(rows, row);
      if (keeps(comparison)) visit(comparison);
    }
    first += rows.size();
  }
}

template <class Visitor>
void Answers::pairs(Visitor&& visit) const {
  comparisons([&](const ComparisonRef& comparison) {
    if (comparison.outcome != Outcome::kOrdered) return;
    const std::size_t k = comparison.items.size();
    for (std::size_t i = 0; i < k; ++i) {
      for (std::size_t j = 0; j < k; ++j) {
        if (comparison.ranks[i] >= comparison.ranks[j]) continue;
        visit(view_.item(comparison.items[i]), view_.item(comparison.items[j]), comparison);
      }
    }
  });
}

template <class Visitor>
void Answers::demonstrations(Visitor&& visit) const {
  if (!keeps_kind("demonstration")) return;
  int64_t first = 0;
  for (const SegmentRows& segment : view_.segments()) {
    const auto& rows = segment.demonstrations;
    for (int64_t row = 0; row < rows.size(); ++row) {
      const auto split = rows.template value<uint8_t>(HONE_FIELD(Demonstration, split), row);
      if (split_ >= 0 && split != split_) continue;
      if (is_superseded(rows, row, first + row, superseded_demonstrations_)) continue;
      if (!keeps_provenance(rows, row, false)) continue;
      visit(rows, row);
    }
    first += rows.size();
  }
}

template <class Visitor>
void Answers::ratings(Visitor&& visit) const {
  if (!keeps_kind("rating")) return;
  for (const SegmentRows& segment : view_.segments()) {
    const auto& rows = segment.ratings;
    for (int64_t row = 0; row < rows.size(); ++row) {
      bool source_fits = false;
      const auto item = rows.template value<int64_t>(HONE_FIELD(Rating, item), row);
      if (keeps_item(view_.item(item), source_fits) && keeps_provenance(rows, row, source_fits)) {
        visit(rows, row);
      }
    }
  }
}

template <class Visitor>
void Answers::reviews(Visitor&& visit) const {
  if (!keeps_kind("review")) return;
  for (const SegmentRows& segment : view_.segments()) {
    const auto& rows = segment.reviews;
    for (int64_t row = 0; row < rows.size(); ++row) {
      const auto answer = reviewers_.find(rows.text(HONE_FIELD(Review, answer), row));
      if (answer == reviewers_.end()) continue;
      bool source_fits = false;
      const ItemRef item = view_.item(rows.template value<int64_t>(HONE_FIELD(Review, item), row));
      if (!keeps_item(item, source_fits)) continue;
      const auto& [answers, at] = answer->second;
      if (!keeps_provenance(*answers, at, source_fits)) continue;
      visit(item, rows.template value<uint8_t>(HONE_FIELD(Review, approved), row) != 0, *answers,
            at);
    }
  }
}

}  // namespace hone::data
