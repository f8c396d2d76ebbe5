#pragma once

// The ranks that a launcher started, met: a communicator over c10d (Gloo on CPUs), a watch over
// those that die or hang, and one way for all of them to fail.

#include <chrono>
#include <memory>
#include <string>

#include "engine/distributed/communicator.h"
#include "engine/distributed/rank_environment.h"
#include "engine/distributed/rank_failure.h"

namespace hone::engine {

struct RankLimits {
  std::chrono::milliseconds meeting{300000};      // until every rank has come
  std::chrono::milliseconds silence{60000};       // of a rank, until it counts as lost
  std::chrono::milliseconds collective{1800000};  // of one collective, all ranks alive
};

class RankGroup {
 public:
  /// Meets the other ranks of `environment`; a world of one meets nobody. `identity` says what must
  /// be the same on every rank (the build). Throws data::InputError for a port in use, a rank 0
  /// that does not answer, ranks that stay away or are of another identity or world size.
  RankGroup(const RankEnvironment& environment, const std::string& identity,
            const RankLimits& limits = {});
  /// Says goodbye; after fail(), without waiting for collectives under way.
  ~RankGroup();
  RankGroup(const RankGroup&) = delete;
  RankGroup& operator=(const RankGroup&) = delete;

  Communicator& communicator();
  void set_limits(const RankLimits& limits);
  /// Tells every rank that this one fails. Returns what to throw: the run's first failure, which
  /// may be another rank's. In a world of one: this one's.
  RankFailure fail(int exit_code, const std::string& message);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Throws data::InputError on every rank unless all brought the same text, naming `what` and the
/// ranks that differ from rank 0.
void agree(Communicator& communicator, const char* what, const std::string& text);

}  // namespace hone::engine
