#pragma once

// What the report would find, said while the run goes on: whoever reads it at the end has paid for
// the whole run.

#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "engine/metrics/metrics.h"
#include "engine/run/policy_judge.h"

namespace hone::engine {

/// Says what the report's examiner finds in figures of summary.json, those that are known.
void say_findings(Metrics& metrics, const std::string& where, const nlohmann::json& summary);

/// Figures of one policy under `when` ("before", "after") as summary.json has them.
void summarise(const JudgedPolicy& policy, const std::string& when, nlohmann::json& summary);

/// Looks at a policy in training and says, once each, the signs that it games its reward.
class GamingWatch {
 public:
  explicit GamingWatch(Metrics& metrics) : metrics_(metrics) {}
  /// Before the first look, the policy that training started from.
  void starts_from(const JudgedPolicy& policy);
  bool has_start() const { return !start_.empty(); }
  void look(const JudgedPolicy& policy, int64_t iteration);

 private:
  Metrics& metrics_;
  nlohmann::json start_ = nlohmann::json::object();
  std::set<std::string> said_;
};

}  // namespace hone::engine
