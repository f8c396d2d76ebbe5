#include "engine/trainers/training_checkpoint.h"

#include "engine/runtime/signals.h"

namespace hone::engine {
namespace {

/// The optimizer's flat tensors; momentum only with Muon.
template <class F>
void each_moment(Optimizer::State& state, F&& act) {
  act("m", state.m);
  act("v", state.v);
  if (state.momentum.defined()) act("momentum", state.momentum);
}

}  // namespace

std::string layout_hash(const ParameterArena& parameters) {
  data::Sha256 digest;
  for (const auto& slice : parameters.slices()) {
    std::string text = slice.name + " " + std::to_string(slice.offset);
    for (const int64_t size : slice.shape) text += " " + std::to_string(size);
    digest.update(text + "\n");
  }
  digest.update(stored_type_name(parameters.data().scalar_type()));
  return digest.hex();
}

TokensHash& TokensHash::add(const TokenIds& tokens) {
  const uint64_t size = tokens.size();
  digest_.update(&size, sizeof size);
  digest_.update(tokens.data(), tokens.size() * sizeof(int32_t));
  return *this;
}

TokensHash& TokensHash::add(const TrainingText& text) {
  digest_.update(&text.prompt_tokens, sizeof text.prompt_tokens);
  return add(text.tokens);
}

TokensHash& TokensHash::add(const std::string& text) {
  digest_.update(text);
  return *this;
}

std::string TokensHash::hex() { return digest_.hex(); }

void add_training(TrainingState& state, const std::string& name, const ParameterArena& parameters,
                  Optimizer& optimizer) {
  const int64_t size = parameters.data().numel();
  // Of the parameters, too, the part that is up to date whatever is on its way here.
  for (const auto& own : optimizer.owned()) {
    state.add_interval(name + "/parameters", parameters.data().narrow(0, own.begin, own.size()),
                       size, own.begin);
  }
  each_moment(optimizer.state(), [&](const char* moment, const at::Tensor& values) {
    int64_t at = 0;
    for (const auto& interval : optimizer.owned()) {
      const int64_t count = interval.end - interval.begin;
      state.add_interval(name + "/" + moment, values.narrow(0, at, count), size, interval.begin);
      at += count;
    }
  });
  state.scalars[name + "/optimizer_step"] = optimizer.state().step;
}

void restore_training(const SavedState& saved, const std::string& name,
                      const ParameterArena& parameters, Optimizer& optimizer) {
  const int64_t size = parameters.data().numel();
  optimizer.hold_whole();
  saved.read(name + "/parameters", parameters.data());
  optimizer.hold_parts();
  each_moment(optimizer.state(), [&](const char* moment, const at::Tensor& values) {
    int64_t at = 0;
    for (const auto& interval : optimizer.owned()) {
      const int64_t count = interval.end - interval.begin;
      saved.read(name + "/" + moment, values.narrow(0, at, count), size, interval.begin);
      at += count;
    }
  });
  optimizer.state().step = saved.scalars().at(name + "/optimizer_step").get<int64_t>();
}

std::unique_ptr<SavedState> TrainingCheckpoints::resume(
    const std::vector<const ParameterArena*>& networks,
    const std::function<std::string()>& data_hash) {
  if (!checkpointer_) return nullptr;
  std::string layouts;
  for (const auto* parameters : networks) layouts += layout_hash(*parameters);
  return checkpointer_->resume(data::sha256_hex(layouts), data_hash());
}

void TrainingCheckpoints::boundary(const TrainingPosition& position,
                                   const std::function<TrainingState()>& state) {
  if (!checkpointer_) return check_interrupted();
  checkpointer_->boundary(position, state());
}

void TrainingCheckpoints::guard(const std::function<void()>& act) {
  try {
    act();
  } catch (const Interrupted&) {
    if (checkpointer_) checkpointer_->save_on_stop();
    throw;
  }
}

}  // namespace hone::engine
