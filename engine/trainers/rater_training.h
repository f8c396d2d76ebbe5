#pragma once

// The raters' side of reward training: `reward.training.raters`.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>

#include "engine/checkpoint/saved_state.h"
#include "engine/checkpoint/training_state.h"
#include "reward/rater_model.h"

namespace hone::engine {

/// A rater model that follows the training step by step; empty for "equal".
class RaterTraining {
 public:
  /// `raters`: equal | one_coin | side. Throws data::InputError for anything else, and where the
  /// loss is not Bradley-Terry without lapses: a rater's reliability takes their place.
  RaterTraining(const std::string& raters, const std::string& loss, double lapse,
                const reward::PreferenceData& data, int64_t items);

  explicit operator bool() const { return model_ != nullptr; }
  /// RaterModel::expect of the batch at `scores` (by place, any device), which are then observed.
  reward::RaterModel::Expected step(const reward::PairBatch& batch, const at::Tensor& scores);
  void save(TrainingState& state) const;
  void restore(const SavedState& saved);
  std::shared_ptr<const reward::RaterModel> model() const { return model_; }

 private:
  std::shared_ptr<reward::RaterModel> model_;
};

}  // namespace hone::engine
