#pragma once

// What trainers put into a checkpoint and take out again.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "data/sha256.h"
#include "engine/checkpoint/checkpointer.h"
#include "engine/checkpoint/saved_state.h"
#include "engine/checkpoint/training_state.h"
#include "engine/models/causal_lm.h"
#include "engine/optim/optimizer.h"
#include "engine/packing/packed_batch.h"

namespace hone::engine {

/// Hash of the parameters' names and shapes.
std::string layout_hash(const ParameterArena& parameters);
/// Hash of token sequences, in order.
class TokensHash {
 public:
  TokensHash& add(const TokenIds& tokens);
  TokensHash& add(const TrainingText& text);
  TokensHash& add(const std::string& text);
  std::string hex();

 private:
  data::Sha256 digest_;
};

/// Parameters, moments and step of one network under "<name>/...".
void add_training(TrainingState& state, const std::string& name, const ParameterArena& parameters,
                  Optimizer& optimizer);
void restore_training(const SavedState& saved, const std::string& name,
                      const ParameterArena& parameters, Optimizer& optimizer);

/// A trainer's hold on its checkpointer; without one only a stop is looked for.
class TrainingCheckpoints {
 public:
  explicit TrainingCheckpoints(Checkpointer* checkpointer) : checkpointer_(checkpointer) {}
  /// The newest checkpoint of networks of these layouts and of this data, null to begin.
  std::unique_ptr<SavedState> resume(const std::vector<const ParameterArena*>& networks,
                                     const std::function<std::string()>& data_hash);
  /// Checkpointer::boundary; `state` is called only where there is somebody to keep it.
  void boundary(const TrainingPosition& position, const std::function<TrainingState()>& state);
  void await_copy() {
    if (checkpointer_) checkpointer_->await_copy();
  }
  /// Runs what may be interrupted in its midst without having changed anything.
  void guard(const std::function<void()>& act);
  void finish() {
    if (checkpointer_) checkpointer_->finish();
  }

 private:
  Checkpointer* checkpointer_;
};

}  // namespace hone::engine
