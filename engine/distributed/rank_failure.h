#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace hone::engine {

/// What ended a run of several ranks: the first failure of any of them, the same on all, so that
/// all leave with one exit code and one of them says why: rank 0, or, when that is what died, the
/// next one.
class RankFailure : public std::runtime_error {
 public:
  RankFailure(int exit_code, const std::string& message, int64_t speaker = 0)
      : std::runtime_error(message), exit_code_(exit_code), speaker_(speaker) {}
  int exit_code() const { return exit_code_; }
  /// The rank that tells people.
  int64_t speaker() const { return speaker_; }

 private:
  int exit_code_;
  int64_t speaker_;
};

}  // namespace hone::engine
