// The CUDA halves of the losses: checks, outputs, device guard, current stream, launcher.

#include <ATen/Dispatch.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "kernels/cuda/dispatch_tensors.h"
#include "kernels/cuda/launchers.h"
#include "kernels/loss_inputs.h"
#include "kernels/loss_options.h"

namespace hone::kernels::cuda {
namespace {

using at::Tensor;

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
  const auto params = preference_params("preference_loss", model, tie, lapse);
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
  m.impl("policy_loss_with_grad", &policy_loss_cuda);
  m.impl("value_loss_with_grad", &value_loss_cuda);
  m.impl("preference_loss_with_grad", &preference_loss_cuda);
}

}  // namespace hone::kernels::cuda
