#pragma once

// A person compares pairs in the terminal: answers of the policy before and after training, blind.

#include <cstdint>
#include <filesystem>
#include <string>

namespace hone::engine {

struct TerminalSessionOptions {
  std::filesystem::path run;  // a finished run folder
  int64_t pairs = 10;
  std::string rater = "me";
  int64_t seed = -1;  // of the questions; -1 = how many this rater has answered
};

/// Asks, stores each answer in the run's feedback store before the next question is shown, then
/// fits the reward model to the new answers (run/reward-mine) and shows what changed. Throws
/// data::InputError when the run is not finished.
void run_terminal_session(const TerminalSessionOptions& options);

}  // namespace hone::engine
