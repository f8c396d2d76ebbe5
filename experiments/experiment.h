#pragma once

// What an experiment hands back: rows of figures, each with its pass line.

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace hone::experiments {

struct ExperimentRow {
  std::string name;
  std::vector<double> figures;  // one for each column
  std::string expected;         // the pass line in words; empty = shown only
  bool passed = true;
};

struct ExperimentResult {
  std::string name;
  std::string reading;               // what the table says, in a sentence
  std::vector<std::string> columns;  // after "variant"
  std::vector<ExperimentRow> rows;
  bool passed() const;
  std::string table() const;
  nlohmann::json json() const;
};

struct ExperimentOptions {
  uint64_t seed = 0;
  /// Updates relative to the full experiment (tests use less).
  double scale = 1.0;
  std::filesystem::path run = {};  // selection_replay: a run's folder
};

/// PPO and RLOO against the exact optimum, and what each classic bug costs (ALGORITHMS.md E1).
ExperimentResult exact_optimum(const ExperimentOptions& options);

/// Where the KL goes and which estimator: ten placements against the exact optimum (E2).
ExperimentResult kl_placement(const ExperimentOptions& options);

/// How many labels each acquisition rule needs beside random ones, in three settings (E8).
ExperimentResult active_selection(const ExperimentOptions& options);

/// The same on the judgements that people gave in `options.run`. Throws data::InputError when there
/// are none.
ExperimentResult selection_replay(const ExperimentOptions& options);

/// Choices that go straight through by a threshold learned from judged ones, deployed many times
/// where the true risk is known (FEEDBACK.md 7c, T3).
ExperimentResult routing(const ExperimentOptions& options);

/// How much of what unreliable raters spoil a rater model wins back (E9; FEEDBACK.md T2).
ExperimentResult noisy_raters(const ExperimentOptions& options);

/// Reward over KL: DPO on growing data beside the exact frontier (E3, checklist 57).
ExperimentResult frontier(const ExperimentOptions& options);

}  // namespace hone::experiments
