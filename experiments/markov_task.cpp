#include "experiments/markov_task.h"

#include <ATen/ATen.h>

#include <random>

namespace hone::experiments {

MarkovTask::MarkovTask(int64_t vocabulary, int64_t length, double beta, uint64_t seed)
    : vocabulary_(vocabulary), length_(length), beta_(beta) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  const auto table = [&](double scale) {
    at::Tensor values = at::empty({states(), vocabulary_}, at::kDouble);
    double* data = values.mutable_data_ptr<double>();
    for (int64_t i = 0; i < values.numel(); ++i) data[i] = scale * normal(random);
    return values;
  };
  reference_ = table(0.8).log_softmax(-1);
  rewards_ = table(1.0 / std::sqrt(static_cast<double>(length_)));
  // Soft backward recursion: V_t(s) = beta log sum_a ref(a|s) exp((w(s,a) + V_{t+1}(a)) / beta).
  optimum_ = at::empty_like(reference_);
  at::Tensor next = at::zeros({vocabulary_}, at::kDouble);
  for (int64_t t = length_ - 1; t >= 0; --t) {
    const auto rows = [&](const at::Tensor& x) {
      return x.narrow(0, t * vocabulary_, vocabulary_);
    };
    const auto tilted = rows(reference_) + (rows(rewards_) + next.unsqueeze(0)) / beta_;
    next = beta_ * tilted.logsumexp(-1);
    rows(optimum_).copy_(tilted.log_softmax(-1));
  }
  optimal_objective_ = next[0].item<double>();
}

at::Tensor MarkovTask::optimum() const { return optimum_; }

ExactFigures MarkovTask::evaluate(const at::Tensor& log_policy) const {
  ExactFigures figures;
  at::Tensor previous = at::zeros({vocabulary_}, at::kDouble);
  previous[0] = 1.0;
  for (int64_t t = 0; t < length_; ++t) {
    const auto rows = [&](const at::Tensor& x) {
      return x.narrow(0, t * vocabulary_, vocabulary_);
    };
    const auto joint = previous.unsqueeze(1) * rows(log_policy).exp();  // [previous, a]
    figures.reward += (joint * rows(rewards_)).sum().item<double>();
    figures.kl += (joint * (rows(log_policy) - rows(reference_))).sum().item<double>();
    previous = joint.sum(0);
  }
  return figures;
}

}  // namespace hone::experiments
