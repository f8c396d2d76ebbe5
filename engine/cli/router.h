#pragma once

// A file of outputs by confidence: what the reward model is sure of goes straight through, the rest
// to people; and what people said of those that went straight and were asked nevertheless.

#include <filesystem>
#include <string>

#include "reward/routing.h"

namespace hone::engine {

struct RouteOptions {
  std::filesystem::path run;  // a run whose reward stage is done
  std::string input;          // JSONL of {"prompt" or "messages", "responses": [...]}; empty: none
  std::string straight = "straight.jsonl", people = "questions.jsonl";
  std::filesystem::path report;  // JSON of threshold and curve; empty: none
  std::string project = "default";
  std::string device = "auto";
  reward::RoutingGoal goal;
  double audit = 0.05;  // share of what goes straight that people are asked about nevertheless
  int64_t seed = 0;     // of the audits, and of the pairs that teach the threshold
};

/// Learns the threshold from held-out pairs that people judged, says what it found, and routes the
/// input if there is one. Throws data::InputError, IoError, Interrupted.
void route_outputs(const RouteOptions& options);

/// Reads the answers to audits out of `store` and says what share of what went straight was wrong,
/// with an interval that may be looked at after every answer. Throws data::Error when the share is
/// above the goal's risk beyond doubt.
void check_audits(const RouteOptions& options, const std::filesystem::path& store);

}  // namespace hone::engine
