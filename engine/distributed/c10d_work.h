#pragma once

// Collectives under way: what waiting for them means when ranks may die.

#include <ATen/core/Tensor.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <torch/csrc/distributed/c10d/Work.hpp>

#include "engine/distributed/rank_group.h"
#include "engine/distributed/watch.h"

namespace hone::engine {

/// What the communicators of one rank share.
struct Shared {
  int64_t rank = 0, world = 1;
  RankLimits limits;
  std::unique_ptr<Watch> watch;
  std::atomic<bool> broken{false};
  std::atomic<int64_t> duplicates{0};

  [[noreturn]] void stop(const Watch::Failure& failure, const std::string& what) {
    broken = true;
    throw RankFailure(failure.exit_code,
                      failure.message + (failure.lost ? "; rank " + std::to_string(rank) +
                                                            " noticed in collective '" + what + "'"
                                                      : ""),
                      failure.speaker);
  }
};

/// A connection of collective `what` broke: finds out whose, and stops with that.
[[noreturn]] void connection_lost(Shared& shared, const std::string& what,
                                  const std::string& error);

/// Throws what is known to have failed, or that the others have not come since `begin`.
void check_patience(Shared& shared, std::chrono::steady_clock::time_point begin,
                    const std::string& what);

/// `patient`: without the limit of a collective.
Pending pending_work(std::shared_ptr<Shared> shared, c10::intrusive_ptr<c10d::Work> work,
                     const char* what, bool patient);
/// Waits for `exchange`, which brings one part of each of `world` ranks, and adds them up.
Pending pending_sum(Pending exchange, const at::Tensor& parts, const at::Tensor& output,
                    int64_t world);

}  // namespace hone::engine
