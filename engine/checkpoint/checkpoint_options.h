#pragma once

#include <cstdint>

namespace hone::engine {

/// When a stage that trains is saved, and what is kept.
struct CheckpointOptions {
  int64_t every_steps = 0;
  double every_seconds = 300.0;
  int64_t keep_last = 2;
  int64_t keep_every = 0;

  template <class V>
  void visit(V&& v) {
    v("every_steps", every_steps, "steps (PPO: iterations) between two checkpoints, 0 = by time");
    v("every_seconds", every_seconds, "seconds between two checkpoints, 0 = by steps only");
    v("keep_last", keep_last, "newest checkpoints kept while a stage trains");
    v("keep_every", keep_every,
      "checkpoints whose step is a multiple of it are kept for good, 0 = none");
  }
};

}  // namespace hone::engine
