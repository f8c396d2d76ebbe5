#pragma once

// What a recipe will need of a cluster: memory of a rank, bytes that ranks exchange, seconds of a
// step. Arithmetic, not a run; engine/distributed/README.md derives the formulas.

#include <cstdint>
#include <string>
#include <vector>

#include "engine/config/recipe.h"
#include "engine/models/model_config.h"
#include "engine/plan/hardware.h"
#include "engine/plan/text_lengths.h"

namespace hone::engine {

struct MemoryPlan {  // bytes of one rank
  double parameters = 0, gradients = 0, optimizer = 0;
  double frozen = 0;       // reference and reward model
  double exchange = 0;     // buckets under way
  double activations = 0;  // of one forward and backward pass
  double cache = 0;        // keys and values of a rollout
  double total() const {
    return parameters + gradients + optimizer + frozen + exchange + activations + cache;
  }
};

struct StepPlan {
  std::string stage;  // "pretrain", "sft", "reward", "train"
  MemoryPlan memory;
  int64_t steps = 0;           // optimizer steps; iterations of "train"
  double tokens = 0;           // of one step, all ranks
  double rollout_seconds = 0;  // train only
  double scoring_seconds = 0;
  double compute_seconds = 0;  // forward and backward
  double bytes_sent = 0;       // by one rank, in one step
  double communication_seconds = 0, exposed_seconds = 0;
  double seconds() const {
    return rollout_seconds + scoring_seconds + compute_seconds + exposed_seconds;
  }
};

struct ClusterPlan {
  int64_t parameters = 0;
  int64_t ranks = 1;
  std::vector<StepPlan> stages;
};

/// The model that a recipe trains: its own, or the one in model.path.
ModelConfig planned_model(const Recipe& recipe, const std::filesystem::path& recipe_dir);

/// `zero`: as RankPlan::zero. Throws data::InputError when there are no ranks.
ClusterPlan plan_run(const Recipe& recipe, const ModelConfig& model, const Hardware& hardware,
                     int64_t ranks, int64_t zero, const TextLengths& lengths);

}  // namespace hone::engine
