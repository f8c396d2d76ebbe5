// The clipped value loss over a flat token stream: loss, metrics and gradient in one pass
// (policy_loss.cu says how; 20 bytes a token in float32).

#include "kernels/cuda/element_vectors.cuh"
#include "kernels/cuda/fixed_order_sum.cuh"
#include "kernels/cuda/loss_launchers.h"
#include "kernels/cuda/store_sums.cuh"
#include "kernels/math/policy.h"
#include "kernels/math/value.h"

namespace hone::kernels::cuda {
namespace {

static_assert(sizeof(math::ValueSums) <= sizeof(math::PolicySums), "sum_workspace_bytes");

template <typename T>
struct AddTokens {
  static constexpr int kRun = device::kVectorWidth<T>;
  static constexpr int kResident = 4;
  ValueLossArgs<T> a;

  template <bool kWhole>
  HONE_DEVICE void operator()(math::ValueSums& sums, int64_t i, int count) const {
    constexpr int N = kRun;
    const auto weight = load_run<N, kWhole>(a.token_weights, i, count);
    const auto value = load_run<N, kWhole>(a.values, i, count);
    const auto old = load_run<N, kWhole>(a.values_old, i, count);
    const auto target = load_run<N, kWhole>(a.returns, i, count);
    device::Vector<T, N> grad;
    math::ValueSumsIn<T> of_run;
    HONE_UNROLL
    for (int k = 0; k < N; ++k) {
      // A token without weight may hold anything; it counts as one of zeros.
      const bool counts = weight[k] != T(0);
      const auto held = [&](T x) { return counts ? x : T(0); };
      const auto token = math::value_token(held(value[k]), held(old[k]), held(target[k]), a.clip);
      grad[k] = weight[k] * token.derivative;
      of_run.add(token, weight[k]);
    }
    store_run<kWhole>(a.grad, i, count, grad);
    sums.merge(of_run);
  }
};

}  // namespace

template <typename T>
cudaError_t launch_value_loss(const ValueLossArgs<T>& args, cudaStream_t stream) {
  const bool aligned = all_aligned<AddTokens<T>::kRun>(args.values, args.values_old, args.returns,
                                                       args.token_weights, args.grad);
  return launch_sum_of_runs(AddTokens<T>{args}, args.n, aligned,
                            static_cast<math::ValueSums*>(args.workspace),
                            StoreLossAndMetrics<T>{args.loss, args.metrics}, stream);
}

template cudaError_t launch_value_loss(const ValueLossArgs<float>&, cudaStream_t);
template cudaError_t launch_value_loss(const ValueLossArgs<double>&, cudaStream_t);

}  // namespace hone::kernels::cuda
