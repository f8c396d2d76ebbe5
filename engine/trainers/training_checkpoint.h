#pragma once

// What trainers put into a checkpoint and take out again.

#include <memory>
#include <string>
#include <vector>

#include "data/sha256.h"
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

}  // namespace hone::engine
