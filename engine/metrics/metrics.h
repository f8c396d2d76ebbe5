#pragma once

// Metrics of a run: one JSON object a step in metrics.jsonl, TensorBoard event files, and a line
// on the terminal with speed and time left.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace hone::engine {

/// Named numbers of one step; names are "area/name" ("ppo/kl", "reward/loss").
using MetricValues = std::vector<std::pair<std::string, double>>;

class Metrics {
 public:
  /// Appends to `run`/metrics.jsonl and writes `run`/tensorboard/events.out.tfevents.*. An empty
  /// path records nothing on disk. `quiet`: nothing on the terminal.
  Metrics(const std::filesystem::path& run, bool quiet);
  ~Metrics();

  /// Begins a stage: {"stage": name} stands in each of its objects; total steps give the ETA. The
  /// terminal shows `shown`, the run's name for it, where that is another.
  void begin_stage(const std::string& stage, int64_t total_steps, const std::string& shown = "");
  /// One object: {"stage","step","time","seconds", values...}. `step` counts finished steps, from
  /// 1; time is Unix seconds, seconds are since begin_stage. Non-finite values become null.
  /// `line` lists the names shown on the terminal, best first (empty: the first four); a value
  /// called "<area>/tokens_per_second" is always shown, as speed.
  void step(int64_t step, const MetricValues& values, const std::vector<std::string>& line = {});
  /// One object under another stage's name, nothing on the terminal: what is measured in the midst
  /// of a stage ("ppo_eval").
  void record(const std::string& stage, int64_t step, const MetricValues& values);
  /// Ends the stage's line on the terminal.
  void end_stage();
  /// A remark on the terminal that does not tear the progress line.
  void say(const std::string& text);
  /// The same for what a person has to know, also when quiet.
  void warn(const std::string& text);

  /// Where the files end now and how long the stage has run, for rewind(): {"jsonl": bytes,
  /// "events": {file: bytes}, "seconds": s}.
  nlohmann::json position() const;
  /// Takes back what was written after position(), by this process or another: a stage goes on from
  /// there. Lines of the stages `kept` stay. A null position: nothing is known, nothing happens.
  /// The next begin_stage counts its seconds on from the position's.
  void rewind(const nlohmann::json& position, const std::set<std::string>& kept);
  /// Everything written so far is on the disk. From any thread.
  void sync();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hone::engine
