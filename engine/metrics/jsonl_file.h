#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>

#include "engine/metrics/append_file.h"
#include "engine/metrics/metrics.h"

namespace hone::engine {

/// metrics.jsonl: one flat object a line. Opening cuts a last line that a crash has torn.
class JsonlFile {
 public:
  explicit JsonlFile(const std::filesystem::path& path);
  /// {"stage","step","time","seconds", values...}: time in Unix seconds, seconds since the stage
  /// began. Non-finite values become null; the last of two equal names stays.
  void write(const std::string& stage, int64_t step, double time, double seconds,
             const MetricValues& values);
  uint64_t size() const { return file_.size(); }
  /// Takes back what was written behind the first `size` bytes, but for lines of the stages in
  /// `kept`. True when there were none of those.
  bool rewind(uint64_t size, const std::set<std::string>& kept);
  void sync() { file_.sync(); }

 private:
  AppendFile file_;
};

}  // namespace hone::engine
