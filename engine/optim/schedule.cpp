#include <algorithm>
#include <cmath>
#include <numbers>

#include "data/error.h"
#include "engine/optim/optimizer.h"

namespace hone::engine {

double schedule_factor(const OptimizerOptions& options, int64_t step, int64_t total_steps) {
  if (step < options.warmup_steps) {
    return static_cast<double>(step + 1) / static_cast<double>(options.warmup_steps);
  }
  const int64_t span = total_steps - options.warmup_steps;
  const double progress =
      span > 0
          ? std::clamp(static_cast<double>(step - options.warmup_steps) / static_cast<double>(span),
                       0.0, 1.0)
          : 0.0;
  const double last = options.final_lr_fraction;
  if (options.schedule == "constant") return 1.0;
  if (options.schedule == "linear") return 1.0 - (1.0 - last) * progress;
  if (options.schedule == "cosine") {
    return last + (1.0 - last) * 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  }
  throw data::InputError("optimizer", "schedule", "cosine, linear or constant", options.schedule);
}

}  // namespace hone::engine
