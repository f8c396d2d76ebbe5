#pragma once

// Parameters from the ranks that own them to those that use them: after an optimizer step, while
// the next pass already begins (ZeRO's first two stages), or block by block during each pass, freed
// after use (the third stage, and frozen models).

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "engine/models/parameter_arena.h"
#include "engine/optim/arena_buckets.h"
#include "engine/optim/rank_plan.h"

namespace hone::engine {

/// The keeper of an arena's parameters as long as it lives.
///
/// In parts, a rank holds its own part of every bucket of the blocks' matrices and, during a pass,
/// the whole of one block, while the next one is on its way; the pages of the arena behind the rest
/// are given back to the system. Embeddings, heads and vectors stay whole. Every gather takes every
/// rank, so ranks agree before each pass: one that has no such pass goes through it without
/// computing. Forward passes go before backward ones, and last backward ones after all others.
class ParameterGather : public ParameterKeeper {
 public:
  /// `in_parts`: from now on, on every rank. Throws data::InputError when that cannot be.
  ParameterGather(ParameterArena& parameters, const RankPlan& plan, bool in_parts);
  ~ParameterGather() override;
  ParameterGather(const ParameterGather&) = delete;
  ParameterGather& operator=(const ParameterGather&) = delete;

  void begin(Pass pass) override;
  void enter(int64_t block) override;
  void end() override;
  void meet() override;
  bool in_parts() const override { return parts_ && !whole_; }

  /// Instead of begin() for the backward pass that comes next, a rank's last before meet(). Returns
  /// whether it is the last of every rank.
  bool begin_last_backward();
  /// Every rank has changed the part that it owns: what is kept whole sets out to the others, the
  /// blocks' matrices only with `blocks_too`.
  void send_changes(bool blocks_too = true);
  /// Holds everything, or parts again; every rank calls it. For passes of single ranks, for what
  /// reads weights directly (generation, files) and for the end.
  void hold_whole();
  void hold_parts();

  /// The intervals that this rank owns, rising, one a bucket (some empty).
  const std::vector<ArenaInterval>& owned() const { return owned_; }
  /// Seconds spent waiting for other ranks since the last call.
  double waited();

 private:
  enum Round : int64_t { kForward, kBackward, kLastBackward, kNone };
  struct Flight {
    size_t bucket = 0;
    at::Tensor sent, received;
    Pending pending;
  };

  /// The first round that any rank asks for, and whether all ask for it.
  std::pair<Round, bool> agree(Round mine);
  bool take_turn(Round mine);
  void follow(Round round);
  bool is_here(size_t bucket) const { return here_[bucket] != 0; }
  bool of_block(size_t bucket, int64_t block) const;
  bool under_way(size_t bucket) const;
  void send(size_t bucket);
  void send_waiting();
  void land();
  void land_all();
  void release(size_t bucket);

  ParameterArena& parameters_;
  std::unique_ptr<Communicator> communicator_;
  ShardSpan span_;
  std::vector<ArenaBucket> buckets_;
  std::vector<ArenaInterval> owned_;
  bool parts_, whole_ = true;
  std::vector<char> here_;      // by bucket: all of it is here, or (for who follows) would be
  std::deque<size_t> waiting_;  // buckets that set out when others have landed
  std::deque<Flight> flights_;
  int64_t blocks_ = 0, step_ = 1;  // step_: 1 forward, -1 backward
  bool following_ = false, announced_ = false;
  double waited_ = 0;
};

/// Lets go of what a keeper in parts would not hold: for a network that waits for its keeper while
/// others are loaded. Its parameters are not whole afterwards although nothing says so.
void keep_own_part(ParameterArena& parameters, const RankPlan& plan);

}  // namespace hone::engine
