// The policy loss over a flat token stream: loss, metrics and gradient in one pass over the tokens.
// Where tokens share a ratio or a behaviour weight of their sequence, one block a sequence sums it
// first; where the gradient comes back through a shared ratio, one block a sequence spreads it
// after. 256 threads: a response of a few hundred tokens or more keeps them busy, and a shorter one
// costs no more than its launch. Any lengths, 0 among them.
//
// The pass over the tokens moves 20 bytes a token in float32 (24 with a reference). A thread takes
// runs of 16 bytes of every operand at once: 64 bytes in flight, at four blocks an SM more than the
// memory's latency needs. The sums of a run's four tokens are held in float, as its tokens are:
// their own rounding is no smaller; runs are added in double, because one conversion to double
// costs as much as eight multiplications.

#include "kernels/cuda/element_vectors.cuh"
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

/// kPlain: the token's own clipped ratio, neither a reference nor a behaviour policy, so that the
/// rest of the formula is not there at all.
template <typename T, bool kPlain>
struct AddTokens {
  static constexpr int kRun = device::kVectorWidth<T>;
  static constexpr int kResident = kPlain ? 4 : 3;
  PolicyLossArgs<T> a;

  template <bool kWhole>
  HONE_DEVICE void operator()(math::PolicySums& sums, int64_t i, int count) const {
    constexpr int N = kRun;
    math::PolicyParams<T> p = a.params;
    if constexpr (kPlain) p = plain(p);
    const auto load = [&](const T* x) { return load_run_or<N, kWhole>(x, i, count, T(0)); };
    const auto weight = load_run<N, kWhole>(a.token_weights, i, count);
    const auto now = load_run<N, kWhole>(a.logp_new, i, count);
    const auto old = load_run<N, kWhole>(a.logp_old, i, count);
    const auto advantage = load_run<N, kWhole>(a.advantages, i, count);
    device::Vector<T, N> ref{}, shared_ratio{}, behaviour{};
    if constexpr (!kPlain) {
      ref = load(a.logp_ref);
      shared_ratio = load(a.log_ratio);
      behaviour = load(a.log_behaviour != nullptr ? a.log_behaviour : a.logp_behaviour);
    }
    device::Vector<T, N> grad, surrogate;
    math::PolicySumsIn<T> of_run;
    HONE_UNROLL
    for (int k = 0; k < N; ++k) {
      // A token without weight may hold anything; it counts as one of zeros.
      const bool counts = weight[k] != T(0);
      const auto held = [&](T x) { return counts ? x : T(0); };
      math::PolicyPoint<T> x{held(now[k]), held(old[k]), held(advantage[k]), T(0), T(0), T(0)};
      x.log_ratio = x.logp_new - x.logp_old;
      if constexpr (!kPlain) {
        x.logp_ref = held(ref[k]);
        if (a.log_ratio != nullptr) x.log_ratio = held(shared_ratio[k]);
        x.log_behaviour = held(behaviour[k]);
        if (a.log_behaviour == nullptr) x.log_behaviour = x.logp_old - x.log_behaviour;
      }
      const auto token = math::policy_token(x, p);
      const bool apart = !kPlain && a.surrogate != nullptr;
      surrogate[k] = weight[k] * token.surrogate;
      grad[k] = weight[k] * (apart ? token.kl_gradient : token.derivative);
      of_run.add(token, weight[k], -x.logp_new);
    }
    store_run<kWhole>(a.grad, i, count, grad);
    if constexpr (kPlain) {  // are zeros then, and need no registers if the compiler sees it
      of_run.reference_kl = of_run.behaviour_cut = T(0);
    } else {
      if (a.surrogate != nullptr) store_run<kWhole>(a.surrogate, i, count, surrogate);
    }
    sums.merge(of_run);
  }

  HONE_HD static math::PolicyParams<T> plain(math::PolicyParams<T> p) {
    p.surrogate = math::Surrogate::kClip;
    p.level = math::RatioLevel::kToken;
    p.behaviour = math::Behaviour::kNone;
    p.kl_coef = 0;
    return p;
  }
};

template <typename T>
bool is_plain(const math::PolicyParams<T>& p) {
  return p.surrogate == math::Surrogate::kClip && p.level == math::RatioLevel::kToken &&
         p.behaviour == math::Behaviour::kNone && p.kl_coef == T(0);
}

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
  constexpr int N = device::kVectorWidth<T>;
  const bool aligned = all_aligned<N>(args.logp_new, args.logp_old, args.advantages,
                                      args.token_weights, args.grad, args.logp_ref, args.log_ratio,
                                      args.logp_behaviour, args.log_behaviour, args.surrogate);
  const auto add_tokens = [&](const auto& run) {
    return launch_sum_of_runs(run, args.n, aligned, static_cast<math::PolicySums*>(args.workspace),
                              StoreLossAndMetrics<T>{args.loss, args.metrics}, stream);
  };
  error = is_plain(args.params) ? add_tokens(AddTokens<T, true>{args})
                                : add_tokens(AddTokens<T, false>{args});
  if (error != cudaSuccess || args.surrogate == nullptr) return error;
  return device::launch(share_gradient_kernel<T>, args.sequences, kThreads, 0, stream, args, mean);
}

template cudaError_t launch_policy_loss(const PolicyLossArgs<float>&, cudaStream_t);
template cudaError_t launch_policy_loss(const PolicyLossArgs<double>&, cudaStream_t);

}  // namespace hone::kernels::cuda
