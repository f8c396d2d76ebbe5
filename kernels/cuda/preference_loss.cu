// Negative log-likelihood of comparisons: loss and gradient in one pass
// (policy_loss.cu says how; 16 bytes a pair in float32, 20 with margins).

#include "kernels/cuda/element_vectors.cuh"
#include "kernels/cuda/fixed_order_sum.cuh"
#include "kernels/cuda/loss_launchers.h"
#include "kernels/cuda/store_sums.cuh"
#include "kernels/math/preference.h"

namespace hone::kernels::cuda {
namespace {

static_assert(sizeof(math::PreferenceSum) <= sizeof(math::PolicySums), "sum_workspace_bytes");

/// kPlain: Bradley-Terry without lapses, so that the other models are not in the kernel at all.
template <typename T, bool kPlain>
struct AddPairs {
  static constexpr int kRun = device::kVectorWidth<T>;
  static constexpr int kResident = 4;
  PreferenceLossArgs<T> a;

  template <bool kWhole>
  HONE_DEVICE void operator()(math::PreferenceSum& sum, int64_t i, int count) const {
    constexpr int N = kRun;
    math::PreferenceParams<T> p = a.params;
    if constexpr (kPlain) {
      p.model = math::PreferenceModel::kBradleyTerry;
      p.lapse = 0;
    }
    const auto weight = load_run<N, kWhole>(a.weights, i, count);
    const auto delta = load_run<N, kWhole>(a.delta, i, count);
    const auto target = load_run<N, kWhole>(a.target, i, count);
    const auto margin = load_run_or<N, kWhole>(a.margin, i, count, T(0));
    device::Vector<T, N> grad;
    T of_run = 0;
    HONE_UNROLL
    for (int k = 0; k < N; ++k) {
      grad[k] = 0;
      if (weight[k] == T(0)) continue;  // and may hold anything
      const auto nll = math::preference_nll(delta[k] - margin[k], target[k], p);
      grad[k] = weight[k] * nll.derivative;
      of_run += weight[k] * nll.value;
    }
    store_run<kWhole>(a.grad, i, count, grad);
    sum.loss += of_run;
  }
};

}  // namespace

template <typename T>
cudaError_t launch_preference_loss(const PreferenceLossArgs<T>& args, cudaStream_t stream) {
  constexpr int N = device::kVectorWidth<T>;
  const bool aligned =
      all_aligned<N>(args.delta, args.target, args.weights, args.margin, args.grad);
  const auto add_pairs = [&](const auto& run) {
    return launch_sum_of_runs(run, args.n, aligned,
                              static_cast<math::PreferenceSum*>(args.workspace),
                              StoreLoss<T>{args.loss}, stream);
  };
  const bool plain =
      args.params.model == math::PreferenceModel::kBradleyTerry && args.params.lapse == T(0);
  return plain ? add_pairs(AddPairs<T, true>{args}) : add_pairs(AddPairs<T, false>{args});
}

template cudaError_t launch_preference_loss(const PreferenceLossArgs<float>&, cudaStream_t);
template cudaError_t launch_preference_loss(const PreferenceLossArgs<double>&, cudaStream_t);

}  // namespace hone::kernels::cuda
