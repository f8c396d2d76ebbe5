#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace hone::engine {

/// What ended a run of several ranks: the first failure of any of them, the same on all, so that
/// all leave with one exit code and rank 0 says why.
class RankFailure : public std::runtime_error {
 public:
  RankFailure(int exit_code, const std::string& message)
      : std::runtime_error(message), exit_code_(exit_code) {}
  int exit_code() const { return exit_code_; }

 private:
  int exit_code_;
};

}  // namespace hone::engine
