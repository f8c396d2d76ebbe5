#pragma once

// Optimizers over a model's arenas. One AdamW launch for everything; Muon (orthogonalised
// momentum) optionally for the matrices inside the blocks.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/models/parameter_arena.h"
#include "engine/optim/gradient_exchange.h"
#include "engine/optim/muon.h"
#include "engine/optim/parameter_gather.h"
#include "engine/optim/rank_plan.h"

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
  /// data::InputError for options that cannot be, or not with `plan`.
  Optimizer(ParameterArena& parameters, OptimizerOptions options, int64_t total_steps,
            const RankPlan& plan = {});
  /// With several logical shards: this rank's, before and after each one's gradient is in the
  /// arena (see GradientExchange).
  void expect_last_backward();
  void end_shard();
  /// Sums over shards, clips, updates, zeroes the gradients. Returns the norm of the sum before
  /// clipping. `report`: this rank's numbers, as many on every rank; afterwards those of all, in
  /// the order of ranks (they travel with the norm). Throws data::Error, on every rank, when a
  /// gradient is not finite, and names the rank; parameters and state are then as before.
  double step(std::vector<double>* report = nullptr);
  /// With stage 3, and after a step with stages 1 and 2, some parameters may be elsewhere or on
  /// their way (ParameterGather). Every rank calls these: afterwards all are here, to read directly
  /// or by a rank alone, until hold_parts(). No others may be at work meanwhile. `changed`: every
  /// rank has changed the owned elements.
  void hold_whole(bool changed = false);
  void hold_parts();
  /// Seconds of waiting for other ranks since the last call.
  double waited();
  int64_t steps_done() const { return state_.step; }
  double lr() const;  // of the next step
  /// Everything a resume needs besides the parameters.
  struct State {
    at::Tensor m, v, momentum;  // [elements of owned()]; momentum only with Muon
    int64_t step = 0;
  };
  State& state() { return state_; }
  /// The elements whose update is this rank's, rising: everything, or its part of it. The tensors
  /// of state() hold these intervals one after another; of the parameters they are up to date at
  /// once.
  const std::vector<ArenaInterval>& owned() const { return owned_; }

 private:
  /// Adjacent parameters that AdamW updates in one launch; slice s is [offsets[s], offsets[s+1]).
  struct Range {
    std::vector<int64_t> offsets;
    std::vector<bool> decays;
  };
  double summed_norm(std::vector<double>* report);
  void adamw(double rate, double scale);
  void muon(double rate, double scale);
  at::Tensor gradient_of(size_t owned) const;

  ParameterArena& parameters_;
  OptimizerOptions options_;
  int64_t total_steps_;
  State state_;
  std::vector<ArenaInterval> owned_;
  std::vector<Range> ranges_;
  std::optional<Muon> muon_;
  RankPlan plan_;
  bool apart_ = false;                          // state is of this rank's part only
  std::unique_ptr<GradientExchange> exchange_;  // none for one shard on one rank
  std::unique_ptr<ParameterGather> gather_;     // from stage 1 on
};

}  // namespace hone::engine
