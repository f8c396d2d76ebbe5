#pragma once

// What is going on, for the manager's page and for Prometheus. It follows the journal by sequence
// number and keeps a few bytes of each answer, so that looking costs what is new.

#include <cstdint>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <unordered_map>
#include <vector>

#include "data/journal/journal.h"
#include "data/service/seen_answer.h"

namespace hone::data::service {

class Service;

class Monitor {
 public:
  explicit Monitor(const Journal& journal) : journal_(journal) {}

  /// `overview` of data/service/API.md.
  nlohmann::json overview(const std::string& project, int64_t now_us);
  /// The same, at most a minute old, for those who ask every few seconds.
  nlohmann::json recent_overview(const std::string& project, int64_t now_us);
  std::map<std::string, int64_t> answers_by_rater();
  /// After an erasure: starts from nothing.
  void forget();

 private:
  /// Reads what is new. The lock is held.
  void follow();
  void take_back(int64_t sequence);

  const Journal& journal_;
  std::mutex mutex_;
  std::vector<SeenAnswer> answers_;                  // by sequence
  std::unordered_map<int64_t, size_t> by_sequence_;  // index into answers_
  int64_t last_ = 0;
  std::map<std::string, nlohmann::json> recent_;  // by project
};

/// /metrics in Prometheus' text format, version 0.0.4.
std::string prometheus_text(Service& service, int64_t now_us);

}  // namespace hone::data::service
