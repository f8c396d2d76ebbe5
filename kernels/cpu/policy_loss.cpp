#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "kernels/cpu/exponentials.h"
#include "kernels/cpu/fixed_order_sum.h"
#include "kernels/cpu/loss_rows.h"
#include "kernels/loss_inputs.h"
#include "kernels/loss_options.h"
#include "kernels/loss_outputs.h"
#include "kernels/loss_signatures.h"
#include "kernels/math/sequence_ratio.h"

namespace hone::kernels {
namespace {

using at::Tensor;
using math::RatioLevel;

struct Sequences {
  const int64_t* cu;
  int64_t count;

  template <typename Visit>
  void each(const Visit& visit) const {
    at::parallel_for(0, count, 16, [&](int64_t first, int64_t last) {
      for (int64_t b = first; b < last; ++b) visit(cu[b], cu[b + 1]);
    });
  }
};

/// out[i] = what the tokens of i's sequence share of x - y: their mean or their sum.
template <typename T>
void share_differences(const Sequences& sequences, const T* x, const T* y, const T* weight,
                       bool mean, T* out) {
  sequences.each([&](int64_t begin, int64_t end) {
    const auto sum = math::sum_differences(x, y, weight, begin, end, 1);
    std::fill(out + begin, out + end, static_cast<T>(sum.value(mean)));
  });
}

/// A sequence's gradient through its shared ratio reaches every token of weight other than 0.
template <typename T>
void share_gradient(const Sequences& sequences, const T* surrogate, const T* weight, bool mean,
                    T* grad) {
  sequences.each([&](int64_t begin, int64_t end) {
    const auto sum = math::sum_values(surrogate, weight, begin, end, 1);
    for (int64_t i = begin; i < end; ++i) {
      if (weight[i] != T(0)) grad[i] += static_cast<T>(sum.value(mean));
    }
  });
}

template <typename T>
math::PolicySums run(const PolicyInputs& in, const math::PolicyParams<T>& p, T* grad) {
  const auto data = [](const Tensor& x) { return x.const_data_ptr<T>(); };
  const T *now = data(in.logp_new), *old = data(in.logp_old), *adv = data(in.advantages);
  const T* weight = data(in.token_weights);
  // Without a reference the kl_coef is 0 and any readable value will do.
  const T* ref = in.logp_ref.defined() ? data(in.logp_ref) : old;
  const bool behaves = p.behaviour != math::Behaviour::kNone;
  const T* sampled = behaves ? data(in.logp_behaviour) : old;
  const bool shares = p.level != RatioLevel::kToken;
  const bool spreads = p.level == RatioLevel::kSequenceMean || p.level == RatioLevel::kSequenceSum;
  const bool mean = p.level != RatioLevel::kSequenceSum;
  Sequences sequences{};
  if (in.cu_seqlens.defined()) {
    sequences = {in.cu_seqlens.const_data_ptr<int64_t>(), in.cu_seqlens.numel() - 1};
  }
  Tensor shared, behaviour, surrogate;
  T *log_ratio = nullptr, *log_behaviour = nullptr, *through = nullptr;
  if (shares) {
    shared = at::empty_like(in.logp_new);
    log_ratio = shared.mutable_data_ptr<T>();
    share_differences(sequences, now, old, weight, mean, log_ratio);
  }
  if (behaves && p.behaviour_of_sequence) {
    behaviour = at::empty_like(in.logp_new);
    log_behaviour = behaviour.mutable_data_ptr<T>();
    share_differences(sequences, old, sampled, weight, false, log_behaviour);
  }
  if (spreads) {
    surrogate = at::empty_like(in.logp_new);
    through = surrogate.mutable_data_ptr<T>();
  }
  const auto sums = sum_in_blocks<math::PolicySums>(
      in.logp_new.numel(), [=](math::PolicySums& s, int64_t begin, int64_t end) {
        if constexpr (std::is_same_v<T, float>) {
          if (vectorised(p)) {
            s = policy_rows(
                {now + begin, old + begin, adv + begin, p.kl_coef != 0 ? ref + begin : nullptr,
                 weight + begin, grad + begin, end - begin},
                p);
            return;
          }
        }
        T log_r[kSumBlock] = {}, r[kSumBlock];
        for (int64_t i = begin; i < end; ++i) {
          log_r[i - begin] = shares ? log_ratio[i] : now[i] - old[i];
        }
        exponentials(log_r, r, end - begin);
        for (int64_t i = begin; i < end; ++i) {
          grad[i] = 0;
          if (weight[i] == 0) continue;
          const math::PolicyPoint<T> point{
              now[i], old[i],           adv[i],
              ref[i], log_r[i - begin], log_behaviour ? log_behaviour[i] : old[i] - sampled[i]};
          const auto token = math::policy_token(point, r[i - begin], p);
          if (spreads) {
            through[i] = weight[i] * token.surrogate;
            grad[i] = weight[i] * token.kl_gradient;
          } else {
            grad[i] = weight[i] * token.derivative;
          }
          s.add(token, weight[i], -now[i]);
        }
      });
  if (spreads) share_gradient(sequences, through, weight, mean, grad);
  return sums;
}

std::tuple<Tensor, Tensor, Tensor> policy_loss_cpu(
    const Tensor& logp_new, const Tensor& logp_old, const Tensor& advantages,
    const OptionalTensor& logp_ref, const Tensor& token_weights, const OptionalTensor& cu_seqlens,
    const OptionalTensor& logp_behaviour, std::string_view kind, double clip_low, double clip_high,
    double dual_clip, double kl_coef, std::string_view kl_estimator, double tau_positive,
    double tau_negative, std::string_view behaviour, double behaviour_low, double behaviour_high) {
  const auto params =
      policy_params("policy_loss",
                    {kind, clip_low, clip_high, dual_clip, kl_coef, kl_estimator, tau_positive,
                     tau_negative, behaviour, behaviour_low, behaviour_high},
                    {logp_ref.has_value(), cu_seqlens.has_value(), logp_behaviour.has_value()});
  const PolicyInputs in = check_policy_loss(logp_new, logp_old, advantages, logp_ref, token_weights,
                                            cu_seqlens, logp_behaviour);
  const LossOutputs out = loss_outputs(in.logp_new, math::PolicySums::kMetrics);
  AT_DISPATCH_FLOATING_TYPES(in.logp_new.scalar_type(), "policy_loss", [&] {
    store_sums<scalar_t>(run(in, cast<scalar_t>(params), out.grad.mutable_data_ptr<scalar_t>()),
                         out);
  });
  return {out.loss, out.metrics, out.grad};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) { m.impl("policy_loss_with_grad", &policy_loss_cpu); }

}  // namespace hone::kernels
