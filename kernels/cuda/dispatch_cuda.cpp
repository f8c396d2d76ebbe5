// The CUDA halves of the RL ops: checks, outputs, device guard, current stream, launcher. The only
// file here that knows both tensors and launchers.

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <limits>

#include "kernels/cuda/launchers.h"
#include "kernels/inputs.h"
#include "kernels/options.h"

namespace hone::kernels::cuda {
namespace {

using at::Tensor;

template <typename T>
const T* data_or_null(const Tensor& x) {
  return x.defined() ? x.const_data_ptr<T>() : nullptr;
}

Tensor workspace_on(const Tensor& like, size_t bytes) {
  return at::empty({static_cast<int64_t>(bytes)}, like.options().dtype(at::kByte));
}

Tensor doubles_on(const Tensor& like, int64_t n) {
  return at::empty({n}, like.options().dtype(at::kDouble));
}

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

std::tuple<Tensor, Tensor, Tensor> policy_loss_cuda(const Tensor& logp_new, const Tensor& logp_old,
                                                    const Tensor& advantages,
                                                    const OptionalTensor& logp_ref,
                                                    const Tensor& token_weights, double clip_low,
                                                    double clip_high, double dual_clip,
                                                    double kl_coef, std::string_view kl_estimator) {
  const auto params = policy_params("policy_loss", clip_low, clip_high, dual_clip, kl_coef,
                                    kl_estimator, logp_ref.has_value());
  const PolicyInputs in =
      check_policy_loss(logp_new, logp_old, advantages, logp_ref, token_weights);
  const c10::cuda::CUDAGuard guard(in.logp_new.device());
  const Tensor loss = at::empty({}, in.logp_new.options());
  const Tensor metrics = doubles_on(in.logp_new, 5);
  const Tensor grad = at::empty_like(in.logp_new);
  const Tensor workspace = workspace_on(in.logp_new, sum_workspace_bytes());
  AT_DISPATCH_FLOATING_TYPES(in.logp_new.scalar_type(), "policy_loss", [&] {
    const PolicyLossArgs<scalar_t> args{in.logp_new.const_data_ptr<scalar_t>(),
                                        in.logp_old.const_data_ptr<scalar_t>(),
                                        in.advantages.const_data_ptr<scalar_t>(),
                                        data_or_null<scalar_t>(in.logp_ref),
                                        in.token_weights.const_data_ptr<scalar_t>(),
                                        loss.mutable_data_ptr<scalar_t>(),
                                        metrics.mutable_data_ptr<double>(),
                                        grad.mutable_data_ptr<scalar_t>(),
                                        in.logp_new.numel(),
                                        cast<scalar_t>(params),
                                        workspace.mutable_data_ptr()};
    C10_CUDA_CHECK(launch_policy_loss(args, c10::cuda::getCurrentCUDAStream()));
  });
  return {loss, metrics, grad};
}

std::tuple<Tensor, Tensor, Tensor> value_loss_cuda(const Tensor& values, const Tensor& values_old,
                                                   const Tensor& returns,
                                                   const Tensor& token_weights, double clip) {
  const ValueInputs in = check_value_loss(values, values_old, returns, token_weights, clip);
  const c10::cuda::CUDAGuard guard(in.values.device());
  const Tensor loss = at::empty({}, in.values.options());
  const Tensor metrics = doubles_on(in.values, 2);
  const Tensor grad = at::empty_like(in.values);
  const Tensor workspace = workspace_on(in.values, sum_workspace_bytes());
  AT_DISPATCH_FLOATING_TYPES(in.values.scalar_type(), "value_loss", [&] {
    const ValueLossArgs<scalar_t> args{
        in.values.const_data_ptr<scalar_t>(),  in.values_old.const_data_ptr<scalar_t>(),
        in.returns.const_data_ptr<scalar_t>(), in.token_weights.const_data_ptr<scalar_t>(),
        loss.mutable_data_ptr<scalar_t>(),     metrics.mutable_data_ptr<double>(),
        grad.mutable_data_ptr<scalar_t>(),     in.values.numel(),
        static_cast<scalar_t>(clip),           workspace.mutable_data_ptr()};
    C10_CUDA_CHECK(launch_value_loss(args, c10::cuda::getCurrentCUDAStream()));
  });
  return {loss, metrics, grad};
}

std::tuple<Tensor, Tensor> preference_loss_cuda(const Tensor& delta, const Tensor& target,
                                                const Tensor& weights, const OptionalTensor& margin,
                                                std::string_view model, double tie, double lapse) {
  const auto params = preference_params(model, tie, lapse);
  const PreferenceInputs in = check_preference_loss(delta, target, weights, margin);
  const c10::cuda::CUDAGuard guard(in.delta.device());
  const Tensor loss = at::empty({}, in.delta.options());
  const Tensor grad = at::empty_like(in.delta);
  const Tensor workspace = workspace_on(in.delta, sum_workspace_bytes());
  AT_DISPATCH_FLOATING_TYPES(in.delta.scalar_type(), "preference_loss", [&] {
    const PreferenceLossArgs<scalar_t> args{in.delta.const_data_ptr<scalar_t>(),
                                            in.target.const_data_ptr<scalar_t>(),
                                            in.weights.const_data_ptr<scalar_t>(),
                                            data_or_null<scalar_t>(in.margin),
                                            loss.mutable_data_ptr<scalar_t>(),
                                            grad.mutable_data_ptr<scalar_t>(),
                                            in.delta.numel(),
                                            cast<scalar_t>(params),
                                            workspace.mutable_data_ptr()};
    C10_CUDA_CHECK(launch_preference_loss(args, c10::cuda::getCurrentCUDAStream()));
  });
  return {loss, grad};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CUDA, m) {
  m.impl("advantages", &advantages_cuda);
  m.impl("moments", &moments_cuda);
  m.impl("whiten", &whiten_cuda);
  m.impl("group_advantages", &group_advantages_cuda);
  m.impl("policy_loss_with_grad", &policy_loss_cuda);
  m.impl("value_loss_with_grad", &value_loss_cuda);
  m.impl("preference_loss_with_grad", &preference_loss_cuda);
}

}  // namespace hone::kernels::cuda
