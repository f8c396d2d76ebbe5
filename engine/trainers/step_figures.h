#pragma once

// What ranks tell each other about a step besides its gradients; it travels in the message that
// carries the gradient norm.

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "engine/metrics/metrics.h"

namespace hone::engine {

/// Most bytes of memory that this process has held at once (Linux's VmHWM); 0 where unknown.
double peak_memory_bytes();
/// Forgets what was held before now.
void reset_peak_memory();

/// Where the time of a step goes, on this rank.
class StepTimes {
 public:
  /// Seconds since the last call (or construction) count as `part`; `waited` of them, spent waiting
  /// for other ranks, as communication.
  void lap(const std::string& part, double waited = 0.0);
  double seconds(const std::string& part) const;
  /// "<area>/seconds_<part>" of every part, "communication" among them, and starts anew.
  void report(const std::string& area, MetricValues& values);

 private:
  void add(const std::string& part, double seconds);
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
  std::vector<std::pair<std::string, double>> parts_ = {{"communication", 0.0}};
};

/// Figures of all ranks.
struct RankFigures {
  double slowest_seconds = 0;  // of the work before the message
  double most_memory = 0;      // bytes
};
/// Appends this rank's figures to what it reports of its shards.
void append_rank_figures(std::vector<double>& report, double seconds);
/// Takes every rank's out of the gathered report, which then holds the shards' numbers alone.
RankFigures take_rank_figures(std::vector<double>& report, int64_t world);

/// "<area>/tokens_per_second" and what goes with it: of one of `world` ranks, the utilization
/// (engine/trainers/utilization.h), the slowest rank's seconds and the most memory.
void append_speed(const std::string& area, double tokens_per_second, int64_t world,
                  double utilization, const RankFigures& ranks, MetricValues& values);

}  // namespace hone::engine
