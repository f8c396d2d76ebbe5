#pragma once

// What the figures of a run mean: one sentence, and what smells. No drawing in here.

#include <optional>
#include <string>
#include <vector>

#include "engine/report/run_files.h"

namespace hone::engine::report {

enum class Severity { kGood, kNote, kWarn, kBad };
/// "good", "quiet", "warn", "bad": the class in the page's style.
const char* css_class(Severity severity);

struct Finding {
  Severity severity = Severity::kNote;
  std::string about;          // the figure it doubts: "diversity", "policy.kl"
  std::string title, detail;  // plain text
  bool collapse = false;      // a sign that the policy has collapsed, rather than been overrated
};

struct Verdict {
  Severity severity = Severity::kNote;
  std::string badge;              // "Improved", "Collapsed", ...
  std::string sentence;           // the result in one sentence, plain text
  std::vector<Finding> findings;  // worst first

  /// The worst that is said about a figure; kNote when nothing is.
  Severity about(const std::string& figure) const;
};

/// Difference of two means in combined standard errors, (after - before) / sqrt(sb^2 + sa^2);
/// absent where a figure is missing or both errors are 0.
std::optional<double> combined_errors(const Figures& summary, const std::string& score);

/// What smells in the figures of summary.json, those that are there; worst first.
std::vector<Finding> examine(const Figures& summary);

Verdict judge_run(const RunFiles& run);

}  // namespace hone::engine::report
