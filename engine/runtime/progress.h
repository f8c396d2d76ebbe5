#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace hone::engine {

/// A progress line with speed and time left on standard error; silent unless that is a terminal.
class Progress {
 public:
  /// total 0 = unknown. unit: "tokens", "lines", "MB".
  Progress(const std::string& label, uint64_t total, const std::string& unit);
  ~Progress();
  void update(uint64_t done);                  // cheap; draws at most ten times a second
  void update(uint64_t done, uint64_t total);  // a better guess of the total

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hone::engine
