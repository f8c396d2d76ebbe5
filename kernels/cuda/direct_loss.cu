// Direct methods over pairs, and KTO over single responses: loss, metrics and gradients in one
// pass.

#include "kernels/cuda/fixed_order_sum.cuh"
#include "kernels/cuda/loss_launchers.h"
#include "kernels/cuda/store_sums.cuh"
#include "kernels/math/direct.h"

namespace hone::kernels::cuda {
namespace {

static_assert(sizeof(math::DirectSums) <= sizeof(math::PolicySums), "sum_workspace_bytes");
static_assert(sizeof(math::KtoSums) <= sizeof(math::PolicySums), "sum_workspace_bytes");

template <typename T>
HONE_DEVICE T value_or(const T* x, int64_t i, T otherwise) {
  return x == nullptr ? otherwise : x[i];
}

template <typename T>
struct AddPair {
  DirectLossArgs<T> a;

  HONE_DEVICE void operator()(math::DirectSums& sums, int64_t i) const {
    const T weight = a.weights[i];
    T d_chosen = 0, d_rejected = 0;
    if (weight != T(0)) {
      const math::DirectPair<T> pair{a.logp_chosen[i],
                                     a.logp_rejected[i],
                                     value_or(a.ref_chosen, i, T(0)),
                                     value_or(a.ref_rejected, i, T(0)),
                                     value_or(a.length_chosen, i, T(1)),
                                     value_or(a.length_rejected, i, T(1))};
      const auto term = math::direct_term(pair, a.params);
      d_chosen = weight * term.d_chosen;
      d_rejected = weight * term.d_rejected;
      sums.add(term, weight);
    }
    a.grad_chosen[i] = d_chosen;
    a.grad_rejected[i] = d_rejected;
  }
};

template <typename T>
struct AddResponse {
  KtoLossArgs<T> a;

  HONE_DEVICE void operator()(math::KtoSums& sums, int64_t i) const {
    const T weight = a.weights[i];
    T derivative = 0;
    if (weight != T(0)) {
      const bool desirable = a.desirable[i] != 0;
      const auto term = math::kto_term(a.logp[i], a.logp_ref[i], desirable, *a.kl, a.params);
      derivative = weight * term.derivative;
      sums.add(term, desirable, weight);
    }
    a.grad[i] = derivative;
  }
};

}  // namespace

template <typename T>
cudaError_t launch_direct_loss(const DirectLossArgs<T>& args, cudaStream_t stream) {
  return launch_sum(AddPair<T>{args}, args.n, static_cast<math::DirectSums*>(args.workspace),
                    StoreLossAndMetrics<T>{args.loss, args.metrics}, stream);
}

template <typename T>
cudaError_t launch_kto_loss(const KtoLossArgs<T>& args, cudaStream_t stream) {
  return launch_sum(AddResponse<T>{args}, args.n, static_cast<math::KtoSums*>(args.workspace),
                    StoreLossAndMetrics<T>{args.loss, args.metrics}, stream);
}

template cudaError_t launch_direct_loss(const DirectLossArgs<float>&, cudaStream_t);
template cudaError_t launch_direct_loss(const DirectLossArgs<double>&, cudaStream_t);
template cudaError_t launch_kto_loss(const KtoLossArgs<float>&, cudaStream_t);
template cudaError_t launch_kto_loss(const KtoLossArgs<double>&, cudaStream_t);

}  // namespace hone::kernels::cuda
