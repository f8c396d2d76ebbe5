// The clipped value loss over a flat token stream: loss, metrics and gradient in one pass.

#include "kernels/cuda/fixed_order_sum.cuh"
#include "kernels/cuda/loss_launchers.h"
#include "kernels/cuda/store_sums.cuh"
#include "kernels/math/policy.h"
#include "kernels/math/value.h"

namespace hone::kernels::cuda {
namespace {

static_assert(sizeof(math::ValueSums) <= sizeof(math::PolicySums), "sum_workspace_bytes");

template <typename T>
struct AddToken {
  ValueLossArgs<T> a;

  HONE_DEVICE void operator()(math::ValueSums& sums, int64_t i) const {
    const T weight = a.token_weights[i];
    T derivative = 0;
    if (weight != T(0)) {
      const auto token = math::value_token(a.values[i], a.values_old[i], a.returns[i], a.clip);
      derivative = weight * token.derivative;
      sums.add(token, weight);
    }
    a.grad[i] = derivative;
  }
};

}  // namespace

template <typename T>
cudaError_t launch_value_loss(const ValueLossArgs<T>& args, cudaStream_t stream) {
  return launch_sum(AddToken<T>{args}, args.n, static_cast<math::ValueSums*>(args.workspace),
                    StoreLossAndMetrics<T>{args.loss, args.metrics}, stream);
}

template cudaError_t launch_value_loss(const ValueLossArgs<float>&, cudaStream_t);
template cudaError_t launch_value_loss(const ValueLossArgs<double>&, cudaStream_t);

}  // namespace hone::kernels::cuda
