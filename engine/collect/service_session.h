#pragma once

// `hone collect`: the rater service on a store, from start to a graceful stop.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/collect/policy_questions.h"
#include "engine/collect/selected_questions.h"

namespace hone::engine {

struct ServiceSessionOptions {
  std::filesystem::path store, project, questions;
  std::string listen = "127.0.0.1:8080";
  std::filesystem::path tls_cert, tls_key;
  bool behind_proxy = false;
  std::vector<std::string> hosts;
  PolicyQuestionOptions policy;
  QuestionSelectionOptions selection;  // without a reward model: everything is asked
  bool demo = false;
  std::filesystem::path demo_run = "runs/quickstart";
  double rater_rate = 20, address_rate = 200;  // requests a second; 0: no limit
  int64_t seal_minutes = 15;
};

/// Serves until SIGINT or SIGTERM, then finishes requests, seals and throws Interrupted. Throws
/// data::InputError for options that do not go together or files that cannot be used.
void run_service_session(const ServiceSessionOptions& options);

}  // namespace hone::engine
