#include "data/exporters/answers.h"

#include "data/error.h"

namespace hone::data {
namespace {

constexpr const char* kSplits[] = {"train", "validation", "test"};
constexpr const char* kKinds[] = {"pairwise", "ranking",     "rating",       "demonstration",
                                  "review",   "same-person", "across-people"};

}  // namespace

Answers::Answers(const StoreView& view, const ExportFilter& filter) : view_(view), filter_(filter) {
  if (!filter.split.empty()) {
    const auto found = std::find(std::begin(kSplits), std::end(kSplits), filter.split);
    if (found == std::end(kSplits)) {
      throw InputError("export", "split", "train, validation or test", filter.split);
    }
    split_ = static_cast<int>(found - std::begin(kSplits));
  }
  for (const std::string& kind : filter.kinds) {
    if (std::find(std::begin(kKinds), std::end(kKinds), kind) == std::end(kKinds)) {
      throw InputError("export", "kind",
                       "pairwise, ranking, rating, demonstration, review, same-person or "
                       "across-people",
                       kind);
    }
    kinds_.insert(kind);
  }
  raters_.insert(filter.raters.begin(), filter.raters.end());
  find_answers();
  int64_t comparisons = 0, demonstrations = 0;
  for (const SegmentRows& segment : view.segments()) {
    find_superseded(segment.comparisons, comparisons, superseded_comparisons_);
    find_superseded(segment.demonstrations, demonstrations, superseded_demonstrations_);
    comparisons += segment.comparisons.size();
    demonstrations += segment.demonstrations.size();
  }
}

void Answers::find_answers() {
  for (const SegmentRows& segment : view_.segments()) {
    const auto& rows = segment.answers;
    if (filter_.project.empty() && segment.reviews.size() == 0) continue;
    for (int64_t row = 0; row < rows.size(); ++row) {
      if (rows.text(HONE_FIELD(Answer, project), row) == filter_.project) {
        of_project_.insert(person_and_time(rows, row));
      }
      if (segment.reviews.size() > 0) {
        reviewers_[rows.text(HONE_FIELD(Answer, id), row)] = {&rows, row};
      }
    }
  }
}

bool Answers::keeps_kind(std::string_view kind) const {
  return kinds_.empty() || kinds_.count(kind) != 0;
}

bool Answers::keeps_item(const ItemRef& item, bool& source_fits) const {
  if (!filter_.source.empty()) source_fits |= item.source() == filter_.source;
  return split_ < 0 || static_cast<int>(item.split()) == split_;
}

ComparisonRef Answers::reference(const hdf5::Rows<Comparison>& rows, int64_t row) const {
  ComparisonRef one{
      &rows,
      row,
      rows.list<int64_t>(HONE_FIELD(Comparison, items), row),
      rows.list<uint8_t>(HONE_FIELD(Comparison, ranks), row),
      rows.list<uint8_t>(HONE_FIELD(Comparison, shown), row),
      static_cast<Outcome>(rows.value<uint8_t>(HONE_FIELD(Comparison, outcome), row))};
  const std::size_t ranks = one.outcome == Outcome::kOrdered ? one.items.size() : 0;
  if (one.ranks.size() != ranks || one.items.size() < 2) {
    throw CorruptError("comparison " + std::string(rows.text(HONE_FIELD(Comparison, id), row)),
                       "ranks", std::to_string(ranks), std::to_string(one.ranks.size()));
  }
  return one;
}

bool Answers::keeps(const ComparisonRef& comparison) const {
  if (!kinds_.empty()) {
    const std::string_view people =
        comparison.rows->text(HONE_FIELD(Comparison, kind), comparison.row);
    if (!keeps_kind(comparison.items.size() == 2 ? "pairwise" : "ranking") &&
        kinds_.count(people) == 0) {
      return false;
    }
  }
  bool source_fits = false;
  if (split_ >= 0 || !filter_.source.empty()) {
    for (const int64_t item : comparison.items) {
      if (!keeps_item(view_.item(item), source_fits)) return false;
    }
  }
  return keeps_provenance(*comparison.rows, comparison.row, source_fits);
}

}  // namespace hone::data
