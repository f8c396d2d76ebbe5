#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "engine/metrics/metrics.h"
#include "engine/runtime/terminal_line.h"

namespace hone::engine {

/// Where a stage stands, on standard error. A terminal gets one line that refreshes:
///   [train] 12/40 30% score 0.82 kl 2.1 1234 tok/s eta 0:21
/// anything else gets a plain line every tenth of the stage.
class Console {
 public:
  explicit Console(std::FILE* stream = stderr) : line_(stream) {}
  void begin_stage(const std::string& stage, int64_t total_steps);
  void step(int64_t step, const MetricValues& values, const std::vector<std::string>& names);
  void end_stage();
  void say(const std::string& text) { line_.print(text); }

 private:
  using Clock = std::chrono::steady_clock;
  double elapsed() const;
  std::string text(int64_t step, const std::string& last, int width) const;
  bool is_due(int64_t step);
  double seconds_left(int64_t step, Clock::time_point now);

  TerminalLine line_;
  std::string label_;
  int64_t total_ = 0, first_ = 0, step_ = 0, printed_ = 0;
  bool stepped_ = false;
  Clock::time_point start_, next_draw_;
  struct Mark {
    Clock::time_point time;
    int64_t step;
  };
  std::deque<Mark> marks_;          // the last minute's, one a second: its speed says what is left
  std::vector<std::string> shown_;  // "kl 2.1"
  std::string speed_;               // "1234 tok/s"
};

}  // namespace hone::engine
