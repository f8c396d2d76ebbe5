#pragma once

// A tabular policy trained through the engine's own ops: hidden states are one-hot rows, the head
// weight is the table.

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "experiments/markov_task.h"

namespace hone::experiments {

struct MarkovRollout {
  at::Tensor states;      // [B*L] int64, row-major by text
  at::Tensor actions;     // [B*L] int64
  at::Tensor cu_seqlens;  // [B+1] int64
  at::Tensor rewards;     // [B*L] per-token reward of the task
};

class MarkovPolicy {
 public:
  /// Starts as the task's reference. lr falls linearly to 0 over `updates` optimizer steps.
  MarkovPolicy(const MarkovTask& task, double lr, int64_t updates);

  /// `texts` samples at `temperature`; the draw depends on (seed, text) only.
  MarkovRollout sample(int64_t texts, int64_t seed, double temperature) const;
  /// Log-probabilities [N] of the rollout's actions by kernels::token_logprobs, with gradient.
  at::Tensor logprobs(const at::Tensor& states, const at::Tensor& actions) const;
  /// The same from the log-softmax of the whole table: faster for many more tokens than states.
  at::Tensor looked_up_logprobs(const at::Tensor& states, const at::Tensor& actions) const;
  at::Tensor log_table() const;  // [states, V] float64
  /// One AdamW step (no decay) along the gradient that `loss` leaves.
  void step(const at::Tensor& loss);

 private:
  const MarkovTask& task_;
  at::Tensor weight_;  // [V, states]: the transposed table, float32
  at::Tensor m_, v_;
  double lr_;
  int64_t updates_, done_ = 0;
};

/// log ref [N] of (states, actions), float32.
at::Tensor reference_logprobs(const MarkovTask& task, const at::Tensor& states,
                              const at::Tensor& actions);

/// A value for each state, fitted by gradient steps; starts at 0.
class MarkovCritic {
 public:
  MarkovCritic(const MarkovTask& task, double lr, int64_t updates);
  at::Tensor values(const at::Tensor& states) const;  // [N] with gradient
  void step(const at::Tensor& loss);

 private:
  at::Tensor table_, m_, v_;
  double lr_;
  int64_t updates_, done_ = 0;
};

}  // namespace hone::experiments
