// The clipped surrogate over a flat token stream: loss, metrics and gradient in one pass.

#include "kernels/cuda/fixed_order_sum.cuh"
#include "kernels/cuda/launchers.h"
#include "kernels/math/policy.h"

namespace hone::kernels::cuda {
namespace {

template <typename T>
struct AddToken {
  PolicyLossArgs<T> a;

  HONE_DEVICE void operator()(math::PolicySums& sums, int64_t i) const {
    const T weight = a.token_weights[i];
    T derivative = 0;
    if (weight != T(0)) {
      const T ref = a.logp_ref == nullptr ? T(0) : a.logp_ref[i];
      const auto token =
          math::policy_token(a.logp_new[i], a.logp_old[i], a.advantages[i], ref, a.params);
      derivative = weight * token.derivative;
      sums.add(token, weight);
    }
    a.grad[i] = derivative;
  }
};

template <typename T>
struct StoreLoss {
  T* loss;
  double* metrics;

  HONE_DEVICE void operator()(const math::PolicySums& total) const {
    *loss = static_cast<T>(total.loss);
    metrics[0] = total.clip_fraction;
    metrics[1] = total.approx_kl;
    metrics[2] = total.mean_log_ratio;
    metrics[3] = total.mean_ratio;
    metrics[4] = total.max_deviation;
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
  return launch_sum(AddToken<T>{args}, args.n, static_cast<math::PolicySums*>(args.workspace),
                    StoreLoss<T>{args.loss, args.metrics}, stream);
}

template cudaError_t launch_policy_loss(const PolicyLossArgs<float>&, cudaStream_t);
template cudaError_t launch_policy_loss(const PolicyLossArgs<double>&, cudaStream_t);

}  // namespace hone::kernels::cuda
