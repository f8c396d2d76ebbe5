// The policy loss over a flat token stream: loss, metrics and gradient in one pass over the tokens
// (policy_sequences.cu where tokens share something of their sequence).
//
// The pass moves 20 bytes a token in float32 (24 with a reference). A thread takes
// runs of 16 bytes of every operand at once: 64 bytes in flight, at four blocks an SM more than the
// memory's latency needs. The sums of a run's four tokens are held in float, as its tokens are:
// their own rounding is no smaller; runs are added in double, because one conversion to double
// costs as much as eight multiplications.

#include "kernels/cuda/fixed_order_sum.cuh"
#include "kernels/cuda/policy_tokens.cuh"
#include "kernels/cuda/store_sums.cuh"
#include "kernels/math/whitening.h"

namespace hone::kernels::cuda {
namespace {

template <typename T, PolicyForm kForm>
struct AddTokens {
  static constexpr int kRun = device::kVectorWidth<T>;
  static constexpr int kResident = kForm == PolicyForm::kPlain ? 4 : 3;
  PolicyLossArgs<T> a;

  template <bool kWhole>
  HONE_DEVICE void operator()(math::PolicySums& sums, int64_t i, int count) const {
    const math::PolicyParams<T> p = known<kForm>(a.params);
    PolicyTokens<T, kForm> tokens;
    tokens.template load<kWhole>(a, i, count);
    device::Vector<T, kRun> grad;
    RunSums<kForm, T> of_run;
    HONE_UNROLL
    for (int k = 0; k < kRun; ++k) {
      const auto x = tokens.point(k);
      const auto token = math::policy_token(x, p);
      grad[k] = tokens.weight[k] * token.derivative;
      of_run.add(token, tokens.weight[k], -x.logp_new);
    }
    store_run<kWhole>(a.grad, i, count, grad);
    of_run.add_to(sums);
  }
};

template <PolicyForm kForm, typename T>
cudaError_t launch_tokens(const PolicyLossArgs<T>& args, cudaStream_t stream) {
  return launch_sum_of_runs(AddTokens<T, kForm>{args}, args.n, policy_runs_aligned(args),
                            static_cast<math::PolicySums*>(args.workspace),
                            StoreLossAndMetrics<T>{args.loss, args.metrics}, stream);
}

}  // namespace

size_t sum_workspace_bytes() {
  // The widest of the sums.
  static_assert(sizeof(math::PolicySums) >= sizeof(math::MomentSums));
  return kSumBlocks * sizeof(math::PolicySums);
}

template <typename T>
cudaError_t launch_policy_loss(const PolicyLossArgs<T>& args, cudaStream_t stream) {
  if (args.params.level != math::RatioLevel::kToken || args.params.behaviour_of_sequence) {
    return launch_policy_sequences(args, stream);
  }
  switch (policy_form(args.params)) {
    case PolicyForm::kPlain:
      return launch_tokens<PolicyForm::kPlain>(args, stream);
    case PolicyForm::kReference:
      return launch_tokens<PolicyForm::kReference>(args, stream);
    case PolicyForm::kAny:
      break;
  }
  return launch_tokens<PolicyForm::kAny>(args, stream);
}

template cudaError_t launch_policy_loss(const PolicyLossArgs<float>&, cudaStream_t);
template cudaError_t launch_policy_loss(const PolicyLossArgs<double>&, cudaStream_t);

}  // namespace hone::kernels::cuda
