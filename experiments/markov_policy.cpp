#include "experiments/markov_policy.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "kernels/ops.h"

namespace hone::experiments {
namespace {

/// Adam over one flat leaf; lr falls linearly to 0.
void adam_step(at::Tensor& parameter, const at::Tensor& loss, at::Tensor& m, at::Tensor& v,
               double lr, int64_t step, int64_t updates) {
  loss.backward();
  const at::NoGradGuard no_grad;
  const double now = lr * (1.0 - static_cast<double>(step - 1) / static_cast<double>(updates));
  const int64_t size = parameter.numel();
  kernels::adamw_step(parameter.detach().view({-1}), parameter.grad().contiguous().view({-1}), m, v,
                      {0, size}, {now}, {0.0}, at::ones({}, at::kDouble), step,
                      {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8});
  parameter.mutable_grad().reset();
}

}  // namespace

MarkovPolicy::MarkovPolicy(const MarkovTask& task, double lr, int64_t updates)
    : task_(task),
      weight_(task.reference().t().contiguous().to(at::kFloat)),
      m_(at::zeros({weight_.numel()})),
      v_(at::zeros({weight_.numel()})),
      lr_(lr),
      updates_(updates) {
  weight_.requires_grad_(true);
}

MarkovRollout MarkovPolicy::sample(int64_t texts, int64_t seed, double temperature) const {
  const at::NoGradGuard no_grad;
  const int64_t length = task_.length(), vocabulary = task_.vocabulary();
  MarkovRollout rollout;
  rollout.states = at::empty({texts, length}, at::kLong);
  rollout.actions = at::empty({texts, length}, at::kLong);
  const auto table = weight_.t().contiguous();  // [states, V]
  auto previous = at::zeros({texts}, at::kLong);
  auto keys = at::zeros({texts, 3}, at::kLong);
  keys.select(1, 0).copy_(at::arange(texts));
  kernels::SampleOptions options;
  options.temperature = temperature;
  for (int64_t t = 0; t < length; ++t) {
    const auto state = previous + t * vocabulary;
    keys.select(1, 2).fill_(t);
    previous = kernels::sample(table.index_select(0, state), keys, seed, options).tokens;
    rollout.states.select(1, t).copy_(state);
    rollout.actions.select(1, t).copy_(previous);
  }
  rollout.states = rollout.states.view({-1});
  rollout.actions = rollout.actions.view({-1});
  rollout.cu_seqlens = at::arange(texts + 1) * length;
  rollout.rewards = task_.rewards()
                        .view({-1})
                        .index_select(0, rollout.states * vocabulary + rollout.actions)
                        .to(at::kFloat);
  return rollout;
}

at::Tensor MarkovPolicy::logprobs(const at::Tensor& states, const at::Tensor& actions) const {
  const auto one_hot = at::one_hot(states, task_.states()).to(at::kFloat);
  return kernels::token_logprobs(one_hot, weight_, actions, 1.0).logprobs;
}

at::Tensor MarkovPolicy::looked_up_logprobs(const at::Tensor& states,
                                            const at::Tensor& actions) const {
  return weight_.t().log_softmax(-1).reshape({-1}).index_select(
      0, states * task_.vocabulary() + actions);
}

at::Tensor MarkovPolicy::log_table() const {
  return weight_.detach().t().to(at::kDouble).log_softmax(-1);
}

void MarkovPolicy::step(const at::Tensor& loss) {
  ++done_;
  adam_step(weight_, loss, m_, v_, lr_, done_, updates_);
}

at::Tensor reference_logprobs(const MarkovTask& task, const at::Tensor& states,
                              const at::Tensor& actions) {
  return task.reference()
      .view({-1})
      .index_select(0, states * task.vocabulary() + actions)
      .to(at::kFloat);
}

MarkovCritic::MarkovCritic(const MarkovTask& task, double lr, int64_t updates)
    : table_(at::zeros({task.states()})),
      m_(at::zeros({task.states()})),
      v_(at::zeros({task.states()})),
      lr_(lr),
      updates_(updates) {
  table_.requires_grad_(true);
}

at::Tensor MarkovCritic::values(const at::Tensor& states) const {
  return table_.index_select(0, states);
}

void MarkovCritic::step(const at::Tensor& loss) {
  ++done_;
  adam_step(table_, loss, m_, v_, lr_, done_, updates_);
}

}  // namespace hone::experiments
