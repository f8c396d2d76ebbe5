// Direct methods over pairs, and KTO over single responses: loss, metrics and gradients in one
// pass (policy_loss.cu says how; DPO moves 28 bytes a pair in float32).

#include "kernels/cuda/element_vectors.cuh"
#include "kernels/cuda/fixed_order_sum.cuh"
#include "kernels/cuda/loss_launchers.h"
#include "kernels/cuda/store_sums.cuh"
#include "kernels/math/direct.h"

namespace hone::kernels::cuda {
namespace {

static_assert(sizeof(math::DirectSums) <= sizeof(math::PolicySums), "sum_workspace_bytes");
static_assert(sizeof(math::KtoSums) <= sizeof(math::PolicySums), "sum_workspace_bytes");

/// kPlain: DPO of hard labels alone, so that the other kinds are not in the kernel at all.
template <typename T, bool kPlain>
struct AddPairs {
  static constexpr int kRun = device::kVectorWidth<T>;
  static constexpr int kResident = kPlain ? 4 : 3;
  DirectLossArgs<T> a;

  template <bool kWhole>
  HONE_DEVICE void operator()(math::DirectSums& sums, int64_t i, int count) const {
    constexpr int N = kRun;
    math::DirectParams<T> p = a.params;
    if constexpr (kPlain) {
      p.kind = math::DirectKind::kDpo;
      p.label_smoothing = p.nll_coef = 0;
    }
    const auto weight = load_run<N, kWhole>(a.weights, i, count);
    const auto chosen = load_run<N, kWhole>(a.logp_chosen, i, count);
    const auto rejected = load_run<N, kWhole>(a.logp_rejected, i, count);
    const auto ref_chosen = load_run_or<N, kWhole>(a.ref_chosen, i, count, T(0));
    const auto ref_rejected = load_run_or<N, kWhole>(a.ref_rejected, i, count, T(0));
    const auto length_chosen = load_run_or<N, kWhole>(a.length_chosen, i, count, T(1));
    const auto length_rejected = load_run_or<N, kWhole>(a.length_rejected, i, count, T(1));
    device::Vector<T, N> d_chosen, d_rejected;
    math::DirectSumsIn<T> of_run;
    HONE_UNROLL
    for (int k = 0; k < N; ++k) {
      d_chosen[k] = d_rejected[k] = 0;
      if (weight[k] == T(0)) continue;  // and may hold anything
      const math::DirectPair<T> pair{chosen[k],       rejected[k],      ref_chosen[k],
                                     ref_rejected[k], length_chosen[k], length_rejected[k]};
      const auto term = math::direct_term(pair, p);
      d_chosen[k] = weight[k] * term.d_chosen;
      d_rejected[k] = weight[k] * term.d_rejected;
      of_run.add(term, weight[k]);
    }
    store_run<kWhole>(a.grad_chosen, i, count, d_chosen);
    store_run<kWhole>(a.grad_rejected, i, count, d_rejected);
    sums.merge(of_run);
  }
};

template <typename T>
struct AddResponses {
  static constexpr int kRun = device::kVectorWidth<T>;
  static constexpr int kResident = 4;
  KtoLossArgs<T> a;

  template <bool kWhole>
  HONE_DEVICE void operator()(math::KtoSums& sums, int64_t i, int count) const {
    constexpr int N = kRun;
    const auto weight = load_run<N, kWhole>(a.weights, i, count);
    const auto logp = load_run<N, kWhole>(a.logp, i, count);
    const auto logp_ref = load_run<N, kWhole>(a.logp_ref, i, count);
    const auto label = load_run<N, kWhole>(a.desirable, i, count);
    const T kl = *a.kl;
    device::Vector<T, N> grad;
    math::KtoSumsIn<T> of_run;
    HONE_UNROLL
    for (int k = 0; k < N; ++k) {
      grad[k] = 0;
      if (weight[k] == T(0)) continue;  // and may hold anything
      const bool desirable = label[k] != 0;
      const auto term = math::kto_term(logp[k], logp_ref[k], desirable, kl, a.params);
      grad[k] = weight[k] * term.derivative;
      of_run.add(term, desirable, weight[k]);
    }
    store_run<kWhole>(a.grad, i, count, grad);
    sums.merge(of_run);
  }
};

}  // namespace

template <typename T>
cudaError_t launch_direct_loss(const DirectLossArgs<T>& args, cudaStream_t stream) {
  constexpr int N = device::kVectorWidth<T>;
  const bool aligned = all_aligned<N>(args.logp_chosen, args.logp_rejected, args.ref_chosen,
                                      args.ref_rejected, args.weights, args.length_chosen,
                                      args.length_rejected, args.grad_chosen, args.grad_rejected);
  const auto add_pairs = [&](const auto& run) {
    return launch_sum_of_runs(run, args.n, aligned, static_cast<math::DirectSums*>(args.workspace),
                              StoreLossAndMetrics<T>{args.loss, args.metrics}, stream);
  };
  const auto& p = args.params;
  const bool plain =
      p.kind == math::DirectKind::kDpo && p.label_smoothing == T(0) && p.nll_coef == T(0);
  return plain ? add_pairs(AddPairs<T, true>{args}) : add_pairs(AddPairs<T, false>{args});
}

template <typename T>
cudaError_t launch_kto_loss(const KtoLossArgs<T>& args, cudaStream_t stream) {
  constexpr int N = AddResponses<T>::kRun;
  const bool aligned =
      all_aligned<N>(args.logp, args.logp_ref, args.weights, args.desirable, args.grad);
  return launch_sum_of_runs(AddResponses<T>{args}, args.n, aligned,
                            static_cast<math::KtoSums*>(args.workspace),
                            StoreLossAndMetrics<T>{args.loss, args.metrics}, stream);
}

template cudaError_t launch_direct_loss(const DirectLossArgs<float>&, cudaStream_t);
template cudaError_t launch_direct_loss(const DirectLossArgs<double>&, cudaStream_t);
template cudaError_t launch_kto_loss(const KtoLossArgs<float>&, cudaStream_t);
template cudaError_t launch_kto_loss(const KtoLossArgs<double>&, cudaStream_t);

}  // namespace hone::kernels::cuda
