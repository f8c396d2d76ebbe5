#pragma once

// A "language model" small enough to be solved: position-dependent Markov chains with per-token
// rewards. Exact value, KL and KL-regularised optimum by dynamic programming (ALGORITHMS.md E1).

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace hone::experiments {

struct ExactFigures {
  double reward = 0, kl = 0;
  double objective(double beta) const { return reward - beta * kl; }
};

class MarkovTask {
 public:
  /// ref[t, previous, a] random logits x 0.8, reward w[t, previous, a] ~ N(0, 1/L).
  MarkovTask(int64_t vocabulary, int64_t length, double beta, uint64_t seed);

  int64_t vocabulary() const { return vocabulary_; }
  int64_t length() const { return length_; }
  int64_t states() const { return length_ * vocabulary_; }
  double beta() const { return beta_; }
  /// log ref [states, V] float64; the state of (t, previous) is t * V + previous, start previous 0.
  const at::Tensor& reference() const { return reference_; }
  const at::Tensor& rewards() const { return rewards_; }  // [states, V] float64

  /// Exact reward and KL of a policy's log-probabilities [states, V], by forward recursion.
  ExactFigures evaluate(const at::Tensor& log_policy) const;
  /// log of the optimum ref * exp((w + V') / beta) / Z, by soft backward recursion.
  at::Tensor optimum() const;
  /// J* = V_0(start).
  double optimal_objective() const { return optimal_objective_; }

 private:
  int64_t vocabulary_, length_;
  double beta_, optimal_objective_ = 0;
  at::Tensor reference_, rewards_, optimum_;
};

}  // namespace hone::experiments
