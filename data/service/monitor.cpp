#include "data/service/monitor.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "data/service/overview.h"

namespace hone::data::service {
namespace {

constexpr int64_t kPage = 5000, kRecentUs = 60 * int64_t{1'000'000};

}  // namespace

void Monitor::follow() {
  while (true) {
    const auto page = journal_.rows(last_, kPage);
    for (const auto& row : page) {
      last_ = row.sequence;
      take_back(row.supersedes);
      for (const int64_t gone : row.erased) take_back(gone);
      if (row.type != RowType::kAnswer) continue;
      by_sequence_[row.sequence] = answers_.size();
      answers_.push_back(see(row));
    }
    if (static_cast<int64_t>(page.size()) < kPage) return;
  }
}

void Monitor::take_back(int64_t sequence) {
  const auto found = by_sequence_.find(sequence);
  if (found != by_sequence_.end()) answers_[found->second].undone = true;
}

void Monitor::forget() {
  const std::lock_guard lock(mutex_);
  answers_.clear();
  by_sequence_.clear();
  recent_.clear();
  last_ = 0;
}

std::map<std::string, int64_t> Monitor::answers_by_rater() {
  const std::lock_guard lock(mutex_);
  follow();
  std::map<std::string, int64_t> counts;
  for (const auto& answer : answers_) {
    if (!answer.undone) ++counts[answer.rater];
  }
  return counts;
}

nlohmann::json Monitor::overview(const std::string& project, int64_t now_us) {
  nlohmann::json result;
  std::vector<const SeenAnswer*> chosen;
  const std::lock_guard lock(mutex_);
  follow();
  for (const auto& answer : answers_) {
    if (answer.project == project && !answer.undone) chosen.push_back(&answer);
  }
  const Project rules = journal_.project(project);
  std::vector<std::string> names = rules.span_labels;
  for (const auto& each : rules.dimensions) names.push_back(each.name);
  result = overview_of(chosen, names, now_us);
  const auto counts = journal_.counts(project);
  result["project"] = project;
  result["projects"] = nlohmann::json::array();
  for (const auto& each : journal_.projects()) {
    result["projects"].push_back({{"id", each.id}, {"title", each.title}});
  }
  result["at_us"] = now_us;
  result["queue"] = {{"questions", counts.questions}, {"open_slots", counts.open_slots},
                     {"leased", counts.leased},       {"complete", counts.complete},
                     {"escalated", counts.escalated}, {"leases_expired", counts.leases_expired},
                     {"answers", counts.answers},     {"unsealed", counts.unsealed}};
  return recent_[project] = std::move(result);
}

nlohmann::json Monitor::recent_overview(const std::string& project, int64_t now_us) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = recent_.find(project);
    if (found != recent_.end() && now_us - found->second["at_us"].get<int64_t>() < kRecentUs) {
      return found->second;
    }
  }
  return overview(project, now_us);
}

}  // namespace hone::data::service
