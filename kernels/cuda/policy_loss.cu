// The policy loss over a flat token stream: loss, metrics and gradient in one pass over the tokens.
// Where tokens share a ratio or a behaviour weight of their sequence, one block a sequence sums it
// first; where the gradient comes back through a shared ratio, one block a sequence spreads it
// after. 256 threads: a response of a few hundred tokens or more keeps them busy, and a shorter one
// costs no more than its launch. Any lengths, 0 among them.

#include "kernels/cuda/fixed_order_sum.cuh"
#include "kernels/cuda/loss_launchers.h"
#include "kernels/cuda/store_sums.cuh"
#include "kernels/device/collectives.h"
#include "kernels/math/policy.h"
#include "kernels/math/sequence_ratio.h"

namespace hone::kernels::cuda {
namespace {

constexpr int kThreads = 256;

/// out[i] = what the tokens of i's sequence share of x - y.
template <typename T>
HONE_KERNEL(kThreads)
share_differences_kernel(const int64_t* cu_seqlens, const T* x, const T* y, const T* weight,
                         bool mean, T* out) {
  const int64_t first = cu_seqlens[device::block_index()] + device::thread_index();
  const int64_t end = cu_seqlens[device::block_index() + 1];
  const auto sum = device::block_reduce<kThreads>(
      math::sum_differences(x, y, weight, first, end, kThreads), MergeSums<math::SequenceSum>{});
  const T value = static_cast<T>(sum.value(mean));
  for (int64_t i = first; i < end; i += kThreads) out[i] = value;
}

/// grad[i] += what the tokens of i's sequence share of the surrogate's gradients.
template <typename T>
HONE_KERNEL(kThreads)
share_gradient_kernel(PolicyLossArgs<T> a, bool mean) {
  const int64_t first = a.cu_seqlens[device::block_index()] + device::thread_index();
  const int64_t end = a.cu_seqlens[device::block_index() + 1];
  const auto sum = device::block_reduce<kThreads>(
      math::sum_values(a.surrogate, a.token_weights, first, end, kThreads),
      MergeSums<math::SequenceSum>{});
  const T value = static_cast<T>(sum.value(mean));
  for (int64_t i = first; i < end; i += kThreads) {
    if (a.token_weights[i] != T(0)) a.grad[i] += value;
  }
}

template <typename T>
struct AddToken {
  PolicyLossArgs<T> a;

  HONE_DEVICE void operator()(math::PolicySums& sums, int64_t i) const {
    const T weight = a.token_weights[i];
    if (weight == T(0)) {
      a.grad[i] = 0;
      return;
    }
    const T now = a.logp_new[i], old = a.logp_old[i];
    T log_behaviour = 0;
    if (a.log_behaviour != nullptr) {
      log_behaviour = a.log_behaviour[i];
    } else if (a.logp_behaviour != nullptr) {
      log_behaviour = old - a.logp_behaviour[i];
    }
    const math::PolicyPoint<T> point{now,
                                     old,
                                     a.advantages[i],
                                     a.logp_ref == nullptr ? T(0) : a.logp_ref[i],
                                     a.log_ratio == nullptr ? now - old : a.log_ratio[i],
                                     log_behaviour};
    const auto token = math::policy_token(point, a.params);
    if (a.surrogate != nullptr) {
      a.surrogate[i] = weight * token.surrogate;
      a.grad[i] = weight * token.kl_gradient;
    } else {
      a.grad[i] = weight * token.derivative;
    }
    sums.add(token, weight, -now);
  }
};

}  // namespace

size_t sum_workspace_bytes() {
  // The widest of the sums.
  static_assert(sizeof(math::PolicySums) >= sizeof(math::MomentSums));
  return kSumBlocks * sizeof(math::PolicySums);
}

template <typename T>
cudaError_t launch_policy_loss(const PolicyLossArgs<T>& args, cudaStream_t stream) {
  const bool mean = args.params.level != math::RatioLevel::kSequenceSum;
  cudaError_t error = cudaSuccess;
  const auto share = [&](const T* x, const T* y, bool as_mean, T* out) {
    if (error != cudaSuccess || out == nullptr) return;
    error = device::launch(share_differences_kernel<T>, args.sequences, kThreads, 0, stream,
                           args.cu_seqlens, x, y, args.token_weights, as_mean, out);
  };
  share(args.logp_new, args.logp_old, mean, args.log_ratio);
  share(args.logp_old, args.logp_behaviour, false, args.log_behaviour);
  if (error != cudaSuccess) return error;
  error = launch_sum(AddToken<T>{args}, args.n, static_cast<math::PolicySums*>(args.workspace),
                     StoreLossAndMetrics<T>{args.loss, args.metrics}, stream);
  if (error != cudaSuccess || args.surrogate == nullptr) return error;
  return device::launch(share_gradient_kernel<T>, args.sequences, kThreads, 0, stream, args, mean);
}

template cudaError_t launch_policy_loss(const PolicyLossArgs<float>&, cudaStream_t);
template cudaError_t launch_policy_loss(const PolicyLossArgs<double>&, cudaStream_t);

}  // namespace hone::kernels::cuda
