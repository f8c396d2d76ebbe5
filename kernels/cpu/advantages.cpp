#include "kernels/math/advantages.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/inputs.h"
#include "kernels/options.h"

namespace hone::kernels {
namespace {

/// One sequence, last entry first.
template <typename T>
math::AdvantageStats advantages_row(const math::AdvantageRows<T>& a, int64_t row,
                                    const math::AdvantageParams<T>& p) {
  const int64_t begin = a.cu_seqlens[row];
  const int64_t end = a.cu_seqlens[row + 1];
  const int64_t scored = math::score_entry(a.mask, begin, end, p.after_last);
  math::AdvantageStats stats;
  T next = 0;
  for (int64_t t = end - 1; t >= begin; --t) {
    const auto step = math::load_step(a, row, t, scored, p);
    math::store_step(a, t, step, next, p, stats);
    next = math::entry_map(step, false, p)(next);
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
  std::vector<math::AdvantageStats> partial(static_cast<size_t>(in.sequences));
  AT_DISPATCH_FLOATING_TYPES(in.values.scalar_type(), "advantages", [&] {
    const auto p = cast<scalar_t>(params);
    const math::AdvantageRows<scalar_t> rows{
        in.logp_old.const_data_ptr<scalar_t>(),
        in.logp_ref.const_data_ptr<scalar_t>(),
        in.values.const_data_ptr<scalar_t>(),
        in.scores.const_data_ptr<scalar_t>(),
        in.cu_seqlens.const_data_ptr<int64_t>(),
        in.mask.defined() ? in.mask.const_data_ptr<uint8_t>() : nullptr,
        in.token_rewards.defined() ? in.token_rewards.const_data_ptr<scalar_t>() : nullptr,
        advantages.mutable_data_ptr<scalar_t>(),
        returns.mutable_data_ptr<scalar_t>(),
        rewards.mutable_data_ptr<scalar_t>(),
        in.tokens,
        in.sequences};
    // A thread gets at least 16k tokens, on average.
    const int64_t grain =
        std::max<int64_t>(1, in.sequences * 16384 / std::max<int64_t>(1, in.tokens));
    at::parallel_for(0, in.sequences, grain, [&](int64_t first, int64_t last) {
      for (int64_t row = first; row < last; ++row) {
        partial[static_cast<size_t>(row)] = advantages_row(rows, row, p);
      }
    });
  });
  math::AdvantageStats total;  // in the order of the sequences, whatever the threads
  for (const auto& row : partial) total.merge(row);
  const at::Tensor stats = at::empty({4}, in.values.options().dtype(at::kDouble));
  double* out = stats.mutable_data_ptr<double>();
  out[0] = total.sum;
  out[1] = total.squares;
  out[2] = total.count;
  out[3] = total.kl;
  return {advantages, returns, rewards, stats};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) { m.impl("advantages", &advantages_cpu); }

}  // namespace hone::kernels
