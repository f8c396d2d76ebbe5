#pragma once

// Optimizers over a model's arenas. One AdamW launch for everything; Muon (orthogonalised
// momentum) optionally for the matrices inside the blocks.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/models/parameter_arena.h"
#include "engine/optim/muon.h"

namespace hone::engine {

struct OptimizerOptions {
  /// "adamw", or "muon" (matrices in blocks by Muon, the rest by AdamW).
  std::string kind = "adamw";
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.98, eps = 1e-8;
  double weight_decay = 0.1;
  /// Gradient norm above which gradients are scaled down; 0 = off.
  double clip_norm = 1.0;
  /// Muon's learning rate is lr * muon_lr_scale.
  double muon_lr_scale = 10.0;
  double muon_momentum = 0.95;
  /// Warm-up steps, then "cosine", "linear" or "constant" to final_lr_fraction of lr.
  int64_t warmup_steps = 0;
  std::string schedule = "cosine";
  double final_lr_fraction = 0.1;

  template <class V>
  void visit(V&& v) {
    v("kind", kind, "adamw | muon");
    v("lr", lr, "peak learning rate");
    v("beta1", beta1, "decay of the first moment");
    v("beta2", beta2, "decay of the second moment");
    v("eps", eps, "added to the root of the second moment");
    v("weight_decay", weight_decay, "decoupled, on matrices only");
    v("clip_norm", clip_norm, "gradient norm limit, 0 = off");
    v("muon_lr_scale", muon_lr_scale, "Muon's rate over lr");
    v("muon_momentum", muon_momentum, "Muon's momentum");
    v("warmup_steps", warmup_steps, "steps of linear warm-up");
    v("schedule", schedule, "cosine | linear | constant");
    v("final_lr_fraction", final_lr_fraction, "last rate over peak");
  }
};

/// Learning-rate factor in [0, 1] at `step` (from 0) of `total_steps`: (step + 1) / warmup_steps
/// while warming up, then from 1 down to final_lr_fraction, which step `total_steps` would have.
/// Throws data::InputError for an unknown schedule.
double schedule_factor(const OptimizerOptions& options, int64_t step, int64_t total_steps);

class Optimizer {
 public:
  /// Enables the arena's gradients. `parameters` must outlive the optimizer. Throws
  /// data::InputError for options that cannot be.
  Optimizer(ParameterArena& parameters, OptimizerOptions options, int64_t total_steps);
  /// Clips, updates, zeroes the gradients. Returns the gradient norm before clipping. Throws
  /// data::Error when the norm is not finite; parameters and state are then as before.
  double step();
  int64_t steps_done() const { return state_.step; }
  double lr() const;  // of the next step
  /// Everything a resume needs besides the parameters.
  struct State {
    at::Tensor m, v, momentum;  // [P]; momentum only with Muon
    int64_t step = 0;
  };
  State& state() { return state_; }
  /// Elements of the arena, [begin, end).
  struct Interval {
    int64_t begin = 0, end = 0;
  };
  /// Which elements state() is of, rising: everything, or this rank's part of it. The tensors of
  /// state() hold these intervals one after another.
  const std::vector<Interval>& shard() const { return shard_; }

 private:
  /// Adjacent parameters that AdamW updates in one launch; slice s is [offsets[s], offsets[s+1]).
  struct Range {
    std::vector<int64_t> offsets;
    std::vector<bool> decays;
  };
  void adamw(double rate, double scale);

  ParameterArena& parameters_;
  OptimizerOptions options_;
  int64_t total_steps_;
  State state_;
  std::vector<Interval> shard_;
  std::vector<Range> ranges_;
  std::optional<Muon> muon_;
};

}  // namespace hone::engine
