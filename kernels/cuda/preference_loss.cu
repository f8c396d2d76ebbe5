// Negative log-likelihood of comparisons: loss and gradient in one pass.

#include "kernels/cuda/fixed_order_sum.cuh"
#include "kernels/cuda/loss_launchers.h"
#include "kernels/cuda/store_sums.cuh"
#include "kernels/math/preference.h"

namespace hone::kernels::cuda {
namespace {

static_assert(sizeof(math::PreferenceSum) <= sizeof(math::PolicySums), "sum_workspace_bytes");

template <typename T>
struct AddPair {
  PreferenceLossArgs<T> a;

  HONE_DEVICE void operator()(math::PreferenceSum& sum, int64_t i) const {
    const T weight = a.weights[i];
    T derivative = 0;
    if (weight != T(0)) {
      const T z = a.margin == nullptr ? a.delta[i] : a.delta[i] - a.margin[i];
      const auto nll = math::preference_nll(z, a.target[i], a.params);
      derivative = weight * nll.derivative;
      sum.loss += static_cast<double>(weight) * nll.value;
    }
    a.grad[i] = derivative;
  }
};

}  // namespace

template <typename T>
cudaError_t launch_preference_loss(const PreferenceLossArgs<T>& args, cudaStream_t stream) {
  return launch_sum(AddPair<T>{args}, args.n, static_cast<math::PreferenceSum*>(args.workspace),
                    StoreLoss<T>{args.loss}, stream);
}

template cudaError_t launch_preference_loss(const PreferenceLossArgs<float>&, cudaStream_t);
template cudaError_t launch_preference_loss(const PreferenceLossArgs<double>&, cudaStream_t);

}  // namespace hone::kernels::cuda
