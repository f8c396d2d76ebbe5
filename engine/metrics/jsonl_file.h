#pragma once

#include <cstdint>
#include <filesystem>
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

 private:
  AppendFile file_;
};

}  // namespace hone::engine
