#include "engine/trainers/rollout_state.h"

#include <ATen/ops/empty.h>

#include <cstring>

namespace hone::engine {
namespace {

template <class T>
at::Tensor tensor_of(const std::vector<T>& values) {
  at::Tensor copy =
      at::empty({static_cast<int64_t>(values.size())}, c10::CppTypeToScalarType<T>::value);
  std::memcpy(copy.mutable_data_ptr(), values.data(), values.size() * sizeof(T));
  return copy;
}

template <class T>
std::vector<T> vector_of(const at::Tensor& tensor) {
  const T* values = tensor.const_data_ptr<T>();
  return {values, values + tensor.numel()};
}

/// Every field that is a tensor, by name; one list for both directions.
template <class R, class F>
void each_tensor(R& rollout, F&& act) {
  act("mask", rollout.mask);
  act("behaviour_logprobs", rollout.behaviour_logprobs);
  act("scores", rollout.scores);
  act("old_logprobs", rollout.old_logprobs);
  act("ref_logprobs", rollout.ref_logprobs);
  act("entropy", rollout.entropy);
  act("values", rollout.values);
  act("advantages", rollout.advantages);
  act("returns", rollout.returns);
}

template <class R, class F>
void each_list(R& rollout, F&& act) {
  act("ended", rollout.ended);
  act("has_final", rollout.has_final);
  act("offsets", rollout.offsets);
  act("raw_scores", rollout.raw_scores);
  act("normalized_scores", rollout.normalized_scores);
}

}  // namespace

void add_rollout(TrainingState& state, const Rollout& rollout) {
  std::vector<int32_t> tokens;
  std::vector<int64_t> lengths, prompts;
  for (const auto& text : rollout.texts) {
    tokens.insert(tokens.end(), text.tokens.begin(), text.tokens.end());
    lengths.push_back(static_cast<int64_t>(text.tokens.size()));
    prompts.push_back(text.prompt_tokens);
  }
  state.add("rollout/tokens", tensor_of(tokens));
  state.add("rollout/lengths", tensor_of(lengths));
  state.add("rollout/prompt_tokens", tensor_of(prompts));
  each_list(rollout, [&](const char* name, const auto& values) {
    state.add(std::string("rollout/") + name, tensor_of(values));
  });
  each_tensor(rollout, [&](const char* name, const at::Tensor& values) {
    if (values.defined()) state.add(std::string("rollout/") + name, values.detach());
  });
}

Rollout saved_rollout(const SavedState& saved, at::Device device) {
  const auto part = [&](const std::string& name) { return saved.whole("rollout/" + name); };
  Rollout rollout;
  const auto tokens = vector_of<int32_t>(part("tokens"));
  const auto lengths = vector_of<int64_t>(part("lengths"));
  const auto prompts = vector_of<int64_t>(part("prompt_tokens"));
  auto next = tokens.begin();
  for (size_t i = 0; i < lengths.size(); ++i) {
    rollout.texts.push_back({TokenIds(next, next + lengths[i]), prompts[i]});
    next += lengths[i];
  }
  each_list(rollout, [&](const char* name, auto& values) {
    using List = std::remove_reference_t<decltype(values)>;
    values = vector_of<typename List::value_type>(part(name));
  });
  each_tensor(rollout, [&](const char* name, at::Tensor& values) {
    if (saved.has(std::string("rollout/") + name)) values = part(name).to(device);
  });
  rollout.cu_entries = tensor_of(rollout.offsets).to(device);
  return rollout;
}

}  // namespace hone::engine
