#pragma once

// What the figures of a run mean: one sentence, and what smells. No drawing in here.

#include <string>
#include <vector>

#include "engine/report/run_files.h"

namespace hone::engine::report {

enum class Severity { kGood, kNote, kWarn, kBad };

struct Finding {
  Severity severity = Severity::kNote;
  std::string title, detail;  // plain text
  bool collapse = false;      // a sign that the policy has collapsed, rather than been overrated
};

struct Verdict {
  Severity severity = Severity::kNote;
  std::string badge;              // "Improved", "Collapsed", ...
  std::string sentence;           // the result in one sentence, plain text
  std::vector<Finding> findings;  // worst first
};

/// Difference of two means in combined standard errors, (after - before) / sqrt(sb^2 + sa^2);
/// absent where a figure is missing or both errors are 0.
std::optional<double> combined_errors(const Figures& summary, const std::string& score);

Verdict judge_run(const RunFiles& run);

}  // namespace hone::engine::report
