#pragma once

// How the ranks of a run find each other, and part: through the launcher's store.

#include <chrono>
#include <cstdint>
#include <string>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <vector>

#include "engine/distributed/rank_environment.h"

namespace hone::engine {

/// "rank 3", "ranks 1, 2".
std::string rank_list(const std::vector<int64_t>& ranks);

/// Opens the store (on rank 0, unless a launcher's agent has) and waits for every rank. All must
/// bring the same `identity` and world size. Throws data::InputError for a port in use, a rank 0
/// that does not answer and ranks that stay away; RankFailure where rank 0 says what is wrong.
c10::intrusive_ptr<c10d::Store> meet(const RankEnvironment& environment,
                                     const std::string& identity,
                                     std::chrono::milliseconds patience);

/// Rank 0 may hold the store: it leaves last, but does not wait longer than `patience`.
void say_goodbye(c10d::Store& store, int64_t rank, int64_t world,
                 std::chrono::milliseconds patience);

}  // namespace hone::engine
