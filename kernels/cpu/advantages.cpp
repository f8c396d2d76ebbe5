#include "kernels/math/advantages.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/inputs.h"
#include "kernels/options.h"

namespace hone::kernels {
namespace {

struct Stats {
  double sum = 0, squares = 0, count = 0, kl = 0;
};

template <typename T>
struct Rows {
  const T* logp_old;  // [N]
  const T* logp_ref;  // [N]
  const T* values;    // [N]
  const T* scores;    // [B]
  const int64_t* cu_seqlens;
  const uint8_t* mask;     // [N] or null
  const T* token_rewards;  // [N] or null
  T* advantages;           // [N]
  T* returns;              // [N]
  T* rewards;              // [N]
};

/// One sequence, last entry first.
template <typename T>
Stats advantages_row(const Rows<T>& a, int64_t row, const math::AdvantageParams<T>& p) {
  const int64_t begin = a.cu_seqlens[row];
  const int64_t end = a.cu_seqlens[row + 1];
  const int64_t scored = math::score_entry(a.mask, begin, end, p.after_last);
  Stats stats;
  T next = 0;
  for (int64_t t = end - 1; t >= begin; --t) {
    const bool trained = a.mask == nullptr || a.mask[t] != 0;
    if (!trained && t != scored) {
      a.advantages[t] = a.returns[t] = a.rewards[t] = 0;
      continue;
    }
    T reward = 0;
    if (trained) {
      const T kl = math::kl_penalty(a.logp_old[t], a.logp_ref[t], p);
      reward = -p.kl_coef * kl;
      stats.kl += kl;
    }
    if (a.token_rewards != nullptr) reward += a.token_rewards[t];
    if (t == scored) reward += a.scores[row];
    const T target = math::lambda_return(reward, next, p);
    const T advantage = trained ? target - a.values[t] : T(0);
    next = math::step_map(reward, a.values[t], p)(next);
    a.rewards[t] = reward;
    a.returns[t] = target;
    a.advantages[t] = advantage;
    if (trained) {
      stats.sum += advantage;
      stats.squares += static_cast<double>(advantage) * advantage;
      stats.count += 1;
    }
  }
  return stats;
}

using AdvantageTensors = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

AdvantageTensors advantages_cpu(const at::Tensor& logp_old, const at::Tensor& logp_ref,
                                const at::Tensor& values, const at::Tensor& scores,
                                const at::Tensor& cu_seqlens, const OptionalTensor& mask,
                                const OptionalTensor& token_rewards, double kl_coef,
                                std::string_view kl_estimator, std::optional<double> kl_clamp,
                                std::string_view placement, double gamma, double lambda) {
  const auto params = advantage_params(kl_coef, kl_estimator,
                                       kl_clamp.value_or(std::numeric_limits<double>::infinity()),
                                       placement, gamma, lambda);
  const AdvantageInputs in =
      check_advantages(logp_old, logp_ref, values, scores, cu_seqlens, mask, token_rewards);
  const at::Tensor advantages = at::empty_like(in.values);
  const at::Tensor returns = at::empty_like(in.values);
  const at::Tensor rewards = at::empty_like(in.values);
  std::vector<Stats> partial(static_cast<size_t>(in.sequences));
  AT_DISPATCH_FLOATING_TYPES(in.values.scalar_type(), "advantages", [&] {
    const auto p = cast<scalar_t>(params);
    const Rows<scalar_t> rows{
        in.logp_old.const_data_ptr<scalar_t>(),
        in.logp_ref.const_data_ptr<scalar_t>(),
        in.values.const_data_ptr<scalar_t>(),
        in.scores.const_data_ptr<scalar_t>(),
        in.cu_seqlens.const_data_ptr<int64_t>(),
        in.mask.defined() ? in.mask.const_data_ptr<uint8_t>() : nullptr,
        in.token_rewards.defined() ? in.token_rewards.const_data_ptr<scalar_t>() : nullptr,
        advantages.mutable_data_ptr<scalar_t>(),
        returns.mutable_data_ptr<scalar_t>(),
        rewards.mutable_data_ptr<scalar_t>()};
    // A thread gets at least 16k tokens, on average.
    const int64_t grain =
        std::max<int64_t>(1, in.sequences * 16384 / std::max<int64_t>(1, in.tokens));
    at::parallel_for(0, in.sequences, grain, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        partial[static_cast<size_t>(row)] = advantages_row(rows, row, p);
      }
    });
  });
  const at::Tensor stats = at::zeros({4}, in.values.options().dtype(at::kDouble));
  double* total = stats.mutable_data_ptr<double>();
  for (const Stats& s : partial) {  // in the order of the sequences, whatever the threads
    total[0] += s.sum;
    total[1] += s.squares;
    total[2] += s.count;
    total[3] += s.kl;
  }
  return {advantages, returns, rewards, stats};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) { m.impl("advantages", &advantages_cpu); }

}  // namespace hone::kernels
