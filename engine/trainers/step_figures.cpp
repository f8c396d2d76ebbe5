#include "engine/trainers/step_figures.h"

#include <algorithm>
#include <fstream>

namespace hone::engine {
namespace {
constexpr size_t kFigures = 2;
}

double peak_memory_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return 1024.0 * std::stod(line.substr(6));
  }
  return 0.0;
}

void reset_peak_memory() { std::ofstream("/proc/self/clear_refs") << "5"; }

void StepTimes::add(const std::string& part, double seconds) {
  for (auto& [name, sum] : parts_) {
    if (name == part) {
      sum += seconds;
      return;
    }
  }
  parts_.emplace_back(part, seconds);
}

void StepTimes::lap(const std::string& part, double waited) {
  const auto now = std::chrono::steady_clock::now();
  add(part, std::chrono::duration<double>(now - last_).count() - waited);
  add("communication", waited);
  last_ = now;
}

double StepTimes::seconds(const std::string& part) const {
  for (const auto& [name, sum] : parts_) {
    if (name == part) return sum;
  }
  return 0.0;
}

void StepTimes::report(const std::string& area, MetricValues& values) {
  for (auto& [name, sum] : parts_) {
    values.emplace_back(area + "/seconds_" + name, sum);
    sum = 0.0;
  }
}

void append_rank_figures(std::vector<double>& report, double seconds) {
  report.insert(report.end(), {seconds, peak_memory_bytes()});
}

RankFigures take_rank_figures(std::vector<double>& report, int64_t world) {
  RankFigures figures;
  std::vector<double> shards;
  const size_t each = report.size() / static_cast<size_t>(world);
  for (size_t rank = 0; rank < report.size(); rank += each) {
    const double* own = report.data() + rank + each - kFigures;
    shards.insert(shards.end(), const_cast<const double*>(report.data()) + rank, own);
    figures.slowest_seconds = std::max(figures.slowest_seconds, own[0]);
    figures.most_memory = std::max(figures.most_memory, own[1]);
  }
  report = std::move(shards);
  return figures;
}

void append_speed(const std::string& area, double tokens_per_second, int64_t world,
                  double utilization, const RankFigures& ranks, MetricValues& values) {
  values.insert(values.end(),
                {{area + "/tokens_per_second", tokens_per_second},
                 {area + "/rank_tokens_per_second", tokens_per_second / static_cast<double>(world)},
                 {area + "/mfu", utilization},
                 {area + "/seconds_slowest_rank", ranks.slowest_seconds},
                 {area + "/memory_mb", ranks.most_memory / 1e6}});
}

}  // namespace hone::engine
