#include <map>
#include <unordered_map>

#include "data/error.h"
#include "data/hdf5/schema.h"
#include "data/index/id_index.h"
#include "data/invariants.h"
#include "data/store.h"
#include "data/store_files.h"

namespace hone::data {
namespace {

/// A damaged column can spoil every row; one finding a column and a count say as much.
class Findings {
 public:
  Findings(std::vector<VerifyProblem>& problems, std::string segment)
      : problems_(problems), segment_(std::move(segment)) {}

  void add(const std::string& column, std::size_t row, const std::string& message) {
    auto [entry, is_new] = by_column_.try_emplace(column);
    if (is_new) entry->second.first = message + " in row " + std::to_string(row);
    ++entry->second.second;
  }

  ~Findings() {
    for (const auto& [column, finding] : by_column_) {
      const auto& [message, count] = finding;
      problems_.push_back(
          {segment_, column,
           count == 1 ? message : message + " (and " + std::to_string(count - 1) + " more rows)"});
    }
  }

 private:
  std::vector<VerifyProblem>& problems_;
  std::string segment_;
  std::map<std::string, std::pair<std::string, std::size_t>> by_column_;
};

template <class Record>
std::string column_of(const std::string& field) {
  return std::string("/") + hdf5::Schema<Record>::kGroup + "/" + field;
}

template <class Record>
void check_rows(Findings& findings, const std::vector<Record>& records, int64_t items) {
  for (std::size_t i = 0; i < records.size(); ++i) {
    const std::string problem = problem_of(records[i], items);
    if (problem.empty()) continue;
    const std::string field = field_of(problem);
    findings.add(column_of<Record>(field), i, problem.substr(field.size() + 2));
  }
}

using Seen = std::unordered_map<std::string, std::string>;  // id -> segment

template <class Record>
void check_unique(Findings& findings, const std::string& segment,
                  const std::vector<Record>& records, Seen& seen) {
  for (std::size_t i = 0; i < records.size(); ++i) {
    const auto [entry, is_new] = seen.emplace(records[i].id, segment);
    if (is_new || records[i].id.empty()) continue;
    findings.add(
        column_of<Record>("id"), i,
        "expected ids used once, got " + records[i].id + " again (first in " + entry->second + ")");
  }
}

}  // namespace

std::vector<VerifyProblem> Store::verify() const {
  std::vector<VerifyProblem> problems;
  std::vector<std::filesystem::path> paths;
  try {
    paths = segment_paths(directory_);
  } catch (const CorruptError& error) {
    return {{"", "", error.what()}};
  }
  int64_t items_so_far = 0;  // -1: unknown, after a segment without a readable header
  Seen items_seen, comparisons_seen, demonstrations_seen, answers_seen;
  for (const auto& path : paths) {
    const std::string segment = path.filename().string();
    const std::size_t before = problems.size();
    Records records;
    hdf5::verify_segment(path, records, problems);
    hdf5::SegmentHeader header;
    try {
      header = hdf5::read_preamble(path);
    } catch (const CorruptError&) {  // verify_segment has said why
      items_so_far = -1;
      continue;
    }
    if (items_so_far >= 0 && header.items_before != items_so_far) {
      problems.push_back({segment, "",
                          "attribute items_before: expected " + std::to_string(items_so_far) +
                              ", got " + std::to_string(header.items_before)});
    }
    items_so_far = header.items_before + header.items;
    // Rows of damaged columns would only repeat the finding, or blame what is whole.
    if (problems.size() > before) continue;
    Findings findings(problems, segment);
    hdf5::visit_kinds(records,
                      [&](const auto& rows, auto) { check_rows(findings, rows, items_so_far); });
    check_unique(findings, segment, records.items, items_seen);
    check_unique(findings, segment, records.comparisons, comparisons_seen);
    check_unique(findings, segment, records.demonstrations, demonstrations_seen);
    check_unique(findings, segment, records.answers, answers_seen);
  }
  for (const std::string& finding : damaged_index_files(directory_)) {
    problems.push_back({"", "", finding + "; delete it, the next writer makes it anew"});
  }
  return problems;
}

}  // namespace hone::data
