// The CUDA halves of the advantage ops: checks, outputs, device guard, current stream, launcher.
// The dispatch_*.cpp files alone know both tensors and launchers; the losses are in
// dispatch_loss_cuda.

#include <ATen/Dispatch.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <limits>

#include "kernels/cuda/dispatch_tensors.h"
#include "kernels/cuda/launchers.h"
#include "kernels/inputs.h"
#include "kernels/options.h"

namespace hone::kernels::cuda {
namespace {

using at::Tensor;

std::tuple<Tensor, Tensor, Tensor, Tensor> advantages_cuda(
    const Tensor& logp_old, const Tensor& logp_ref, const Tensor& values, const Tensor& scores,
    const Tensor& cu_seqlens, const OptionalTensor& mask, const OptionalTensor& token_rewards,
    double kl_coef, std::string_view kl_estimator, std::optional<double> kl_clamp,
    std::string_view placement, double gamma, double lambda) {
  const auto params = advantage_params(kl_coef, kl_estimator,
                                       kl_clamp.value_or(std::numeric_limits<double>::infinity()),
                                       placement, gamma, lambda);
  const AdvantageInputs in =
      check_advantages(logp_old, logp_ref, values, scores, cu_seqlens, mask, token_rewards);
  const c10::cuda::CUDAGuard guard(in.values.device());
  const Tensor advantages = at::empty_like(in.values);
  const Tensor returns = at::empty_like(in.values);
  const Tensor rewards = at::empty_like(in.values);
  const Tensor stats = doubles_on(in.values, 4);
  AT_DISPATCH_FLOATING_TYPES(in.values.scalar_type(), "advantages", [&] {
    const Tensor workspace =
        workspace_on(in.values, advantage_workspace_bytes<scalar_t>(in.tokens, in.sequences));
    const AdvantageArgs<scalar_t> args{
        {in.logp_old.const_data_ptr<scalar_t>(), in.logp_ref.const_data_ptr<scalar_t>(),
         in.values.const_data_ptr<scalar_t>(), in.scores.const_data_ptr<scalar_t>(),
         in.cu_seqlens.const_data_ptr<int64_t>(), data_or_null<uint8_t>(in.mask),
         data_or_null<scalar_t>(in.token_rewards), advantages.mutable_data_ptr<scalar_t>(),
         returns.mutable_data_ptr<scalar_t>(), rewards.mutable_data_ptr<scalar_t>(), in.tokens,
         in.sequences},
        cast<scalar_t>(params),
        stats.mutable_data_ptr<double>(),
        workspace.mutable_data_ptr()};
    C10_CUDA_CHECK(launch_advantages(args, c10::cuda::getCurrentCUDAStream()));
  });
  return {advantages, returns, rewards, stats};
}

Tensor moments_cuda(const Tensor& x, const OptionalTensor& mask) {
  const MomentInputs in = check_moments(x, mask);
  const c10::cuda::CUDAGuard guard(in.x.device());
  const Tensor stats = doubles_on(in.x, 4);
  const Tensor workspace = workspace_on(in.x, sum_workspace_bytes());
  AT_DISPATCH_FLOATING_TYPES(in.x.scalar_type(), "moments", [&] {
    const MomentArgs<scalar_t> args{in.x.const_data_ptr<scalar_t>(), data_or_null<uint8_t>(in.mask),
                                    stats.mutable_data_ptr<double>(), in.x.numel(),
                                    workspace.mutable_data_ptr()};
    C10_CUDA_CHECK(launch_moments(args, c10::cuda::getCurrentCUDAStream()));
  });
  return stats;
}

Tensor whiten_cuda(const Tensor& x, const Tensor& stats, bool unbiased, bool shift_mean) {
  const WhitenInputs in = check_whiten(x, stats);
  const c10::cuda::CUDAGuard guard(in.x.device());
  const Tensor out = at::empty_like(in.x);
  AT_DISPATCH_FLOATING_TYPES(in.x.scalar_type(), "whiten", [&] {
    const WhitenArgs<scalar_t> args{in.x.const_data_ptr<scalar_t>(),
                                    in.stats.const_data_ptr<double>(),
                                    out.mutable_data_ptr<scalar_t>(),
                                    in.x.numel(),
                                    unbiased,
                                    shift_mean};
    C10_CUDA_CHECK(launch_whiten(args, c10::cuda::getCurrentCUDAStream()));
  });
  return out;
}

Tensor group_advantages_cuda(const Tensor& scores, int64_t group_size, std::string_view kind,
                             double eps) {
  const math::GroupBaseline baseline = parse_group_baseline("group_advantages", kind);
  const Tensor in = check_group_advantages(scores, group_size, eps);
  const c10::cuda::CUDAGuard guard(in.device());
  const Tensor out = at::empty_like(in);
  AT_DISPATCH_FLOATING_TYPES(in.scalar_type(), "group_advantages", [&] {
    const GroupAdvantageArgs<scalar_t> args{in.const_data_ptr<scalar_t>(),
                                            out.mutable_data_ptr<scalar_t>(),
                                            in.numel() / group_size,
                                            group_size,
                                            eps,
                                            baseline};
    C10_CUDA_CHECK(launch_group_advantages(args, c10::cuda::getCurrentCUDAStream()));
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CUDA, m) {
  m.impl("advantages", &advantages_cuda);
  m.impl("moments", &moments_cuda);
  m.impl("whiten", &whiten_cuda);
  m.impl("group_advantages", &group_advantages_cuda);
}

}  // namespace hone::kernels::cuda
