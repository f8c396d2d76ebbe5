#include "data/service/monitor.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "data/service/overview.h"

namespace hone::data::service {
namespace {

constexpr int64_t kPage = 5000;

}  // namespace

void Monitor::follow() {
  while (true) {
    const auto page = journal_.answers(last_, kPage);
    for (const auto& answer : page) {
      last_ = answer.sequence;
      if (answer.supersedes != 0) {
        const auto found = by_sequence_.find(answer.supersedes);
        if (found != by_sequence_.end()) answers_[found->second].undone = true;
      }
      by_sequence_[answer.sequence] = answers_.size();
      answers_.push_back(see(answer));
    }
    if (static_cast<int64_t>(page.size()) < kPage) return;
  }
}

void Monitor::forget() {
  const std::lock_guard lock(mutex_);
  answers_.clear();
  by_sequence_.clear();
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
  result = overview_of(chosen, now_us);
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
  return result;
}

}  // namespace hone::data::service
