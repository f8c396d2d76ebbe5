#pragma once

// What a run directory says, read with tolerance: a piece that is missing or torn is left out and
// named in `unreadable`; nothing here throws for the content of a file.

#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hone::engine::report {

/// One metric of one stage over its steps; NaN where metrics.jsonl has null.
struct Series {
  std::vector<double> step, value;
};

/// A flat JSON object in the order of its file: text as it should be shown, and the number where
/// it is one.
class Figures {
 public:
  struct Entry {
    std::string key, text;
    std::optional<double> number;
  };
  void set(Entry entry);
  std::optional<double> number(const std::string& key) const;
  /// Empty when absent.
  std::string text(const std::string& key) const;
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  std::vector<Entry> entries_;
  std::map<std::string, size_t> places_;
};

/// One bin of a calibration plot: what the model said, how often it was right, pairs in the bin.
struct CalibrationBin {
  double confidence = 0, accuracy = 0, count = 0;
};

/// What reward training found of a rater with enough answers to be judged.
struct RaterFigures {
  std::string name;
  double answers = 0, reliability = 0, low = 0, high = 1;
  std::optional<double> side, side_low, side_high;
};

struct Stage {
  std::string name, hash, started;
  std::optional<double> seconds;
  Figures figures;
  std::vector<CalibrationBin> bins, raw_bins;
  std::vector<RaterFigures> raters;
};

struct Sample {
  std::string prompt, before, after;
  std::optional<double> judge_before, judge_after, proxy_before, proxy_after;
};

struct RunFiles {
  std::string name;  // of the directory
  Figures summary, provenance;
  std::vector<Stage> stages;                                     // in the order a run takes
  std::map<std::string, std::map<std::string, Series>> metrics;  // stage -> name -> series
  std::vector<Sample> samples;
  std::string config;
  std::vector<std::string> unreadable;  // "file: reason"

  /// Null when the stage never recorded the metric.
  const Series* series(const std::string& stage, const std::string& name) const;
  const Stage* stage(std::string_view name) const;
};

/// Throws data::InputError when `run` is not a directory or holds nothing of a run.
RunFiles read_run_files(const std::filesystem::path& run);

}  // namespace hone::engine::report
