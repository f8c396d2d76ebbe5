// The CUDA halves of the losses: checks, outputs, device guard, current stream, launcher.

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "kernels/cuda/dispatch_tensors.h"
#include "kernels/cuda/loss_launchers.h"
#include "kernels/loss_inputs.h"
#include "kernels/loss_options.h"
#include "kernels/loss_outputs.h"
#include "kernels/math/value.h"

namespace hone::kernels::cuda {
namespace {

using at::Tensor;

std::tuple<Tensor, Tensor, Tensor> policy_loss_cuda(
    const Tensor& logp_new, const Tensor& logp_old, const Tensor& advantages,
    const OptionalTensor& logp_ref, const Tensor& token_weights, const OptionalTensor& cu_seqlens,
    const OptionalTensor& logp_behaviour, std::string_view kind, double clip_low, double clip_high,
    double dual_clip, double kl_coef, std::string_view kl_estimator, double tau_positive,
    double tau_negative, std::string_view behaviour, double behaviour_low, double behaviour_high) {
  const auto params =
      policy_params("policy_loss",
                    {kind, clip_low, clip_high, dual_clip, kl_coef, kl_estimator, tau_positive,
                     tau_negative, behaviour, behaviour_low, behaviour_high},
                    {logp_ref.has_value(), cu_seqlens.has_value(), logp_behaviour.has_value()});
  const PolicyInputs in = check_policy_loss(logp_new, logp_old, advantages, logp_ref, token_weights,
                                            cu_seqlens, logp_behaviour);
  const c10::cuda::CUDAGuard guard(in.logp_new.device());
  const LossOutputs out = loss_outputs(in.logp_new, math::PolicySums::kMetrics);
  const Tensor workspace = workspace_on(in.logp_new, sum_workspace_bytes());
  AT_DISPATCH_FLOATING_TYPES(in.logp_new.scalar_type(), "policy_loss", [&] {
    const PolicyLossArgs<scalar_t> args{in.logp_new.const_data_ptr<scalar_t>(),
                                        in.logp_old.const_data_ptr<scalar_t>(),
                                        in.advantages.const_data_ptr<scalar_t>(),
                                        data_or_null<scalar_t>(in.logp_ref),
                                        in.token_weights.const_data_ptr<scalar_t>(),
                                        out.loss.mutable_data_ptr<scalar_t>(),
                                        out.metrics.mutable_data_ptr<double>(),
                                        out.grad.mutable_data_ptr<scalar_t>(),
                                        in.logp_new.numel(),
                                        cast<scalar_t>(params),
                                        workspace.mutable_data_ptr(),
                                        data_or_null<scalar_t>(in.logp_behaviour),
                                        data_or_null<int64_t>(in.cu_seqlens),
                                        in.cu_seqlens.defined() ? in.cu_seqlens.numel() - 1 : 0};
    C10_CUDA_CHECK(launch_policy_loss(args, c10::cuda::getCurrentCUDAStream()));
  });
  return {out.loss, out.metrics, out.grad};
}

std::tuple<Tensor, Tensor, Tensor> value_loss_cuda(const Tensor& values, const Tensor& values_old,
                                                   const Tensor& returns,
                                                   const Tensor& token_weights, double clip) {
  const ValueInputs in = check_value_loss(values, values_old, returns, token_weights, clip);
  const c10::cuda::CUDAGuard guard(in.values.device());
  const LossOutputs out = loss_outputs(in.values, math::ValueSums::kMetrics);
  const Tensor workspace = workspace_on(in.values, sum_workspace_bytes());
  AT_DISPATCH_FLOATING_TYPES(in.values.scalar_type(), "value_loss", [&] {
    const ValueLossArgs<scalar_t> args{
        in.values.const_data_ptr<scalar_t>(),  in.values_old.const_data_ptr<scalar_t>(),
        in.returns.const_data_ptr<scalar_t>(), in.token_weights.const_data_ptr<scalar_t>(),
        out.loss.mutable_data_ptr<scalar_t>(), out.metrics.mutable_data_ptr<double>(),
        out.grad.mutable_data_ptr<scalar_t>(), in.values.numel(),
        static_cast<scalar_t>(clip),           workspace.mutable_data_ptr()};
    C10_CUDA_CHECK(launch_value_loss(args, c10::cuda::getCurrentCUDAStream()));
  });
  return {out.loss, out.metrics, out.grad};
}

std::tuple<Tensor, Tensor> preference_loss_cuda(const Tensor& delta, const Tensor& target,
                                                const Tensor& weights, const OptionalTensor& margin,
                                                std::string_view model, double tie, double lapse) {
  const auto params = preference_params("preference_loss", model, tie, lapse);
  const PreferenceInputs in = check_preference_loss(delta, target, weights, margin);
  const c10::cuda::CUDAGuard guard(in.delta.device());
  const LossOutputs out = loss_outputs(in.delta, 0);
  const Tensor workspace = workspace_on(in.delta, sum_workspace_bytes());
  AT_DISPATCH_FLOATING_TYPES(in.delta.scalar_type(), "preference_loss", [&] {
    const PreferenceLossArgs<scalar_t> args{in.delta.const_data_ptr<scalar_t>(),
                                            in.target.const_data_ptr<scalar_t>(),
                                            in.weights.const_data_ptr<scalar_t>(),
                                            data_or_null<scalar_t>(in.margin),
                                            out.loss.mutable_data_ptr<scalar_t>(),
                                            out.grad.mutable_data_ptr<scalar_t>(),
                                            in.delta.numel(),
                                            cast<scalar_t>(params),
                                            workspace.mutable_data_ptr()};
    C10_CUDA_CHECK(launch_preference_loss(args, c10::cuda::getCurrentCUDAStream()));
  });
  return {out.loss, out.grad};
}

std::tuple<Tensor, Tensor> ranking_loss_cuda(const Tensor& scores, const Tensor& cu_seqlens,
                                             const OptionalTensor& ranks, const Tensor& weights,
                                             std::string_view model, double tie, double lapse) {
  const RankingParams params = ranking_params(model, tie, lapse);
  const RankingInputs in = check_ranking_loss(scores, cu_seqlens, ranks, weights);
  const c10::cuda::CUDAGuard guard(in.scores.device());
  const LossOutputs out = loss_outputs(in.scores, 0);
  const Tensor workspace = workspace_on(in.scores, sum_workspace_bytes());
  const Tensor order =
      at::empty({in.ranks.defined() ? in.scores.numel() : 0}, in.scores.options().dtype(at::kInt));
  AT_DISPATCH_FLOATING_TYPES(in.scores.scalar_type(), "ranking_loss", [&] {
    const RankingLossArgs<scalar_t> args{in.scores.const_data_ptr<scalar_t>(),
                                         in.cu_seqlens.const_data_ptr<int64_t>(),
                                         data_or_null<int64_t>(in.ranks),
                                         in.weights.const_data_ptr<scalar_t>(),
                                         out.loss.mutable_data_ptr<scalar_t>(),
                                         out.grad.mutable_data_ptr<scalar_t>(),
                                         in.groups,
                                         params.plackett_luce,
                                         cast<scalar_t>(params.pair),
                                         order.mutable_data_ptr<int32_t>(),
                                         workspace.mutable_data_ptr()};
    C10_CUDA_CHECK(launch_ranking_loss(args, c10::cuda::getCurrentCUDAStream()));
  });
  return {out.loss, out.grad};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> direct_loss_cuda(
    const Tensor& logp_chosen, const Tensor& logp_rejected, const OptionalTensor& ref_chosen,
    const OptionalTensor& ref_rejected, const Tensor& weights, const OptionalTensor& length_chosen,
    const OptionalTensor& length_rejected, std::string_view kind, double beta,
    double label_smoothing, double margin, std::optional<double> nll_coef) {
  const auto params = direct_params(kind, beta, label_smoothing, margin, nll_coef);
  const DirectInputs in =
      check_direct_loss(logp_chosen, logp_rejected, ref_chosen, ref_rejected, weights,
                        length_chosen, length_rejected, kind, direct_needs(kind, params));
  const c10::cuda::CUDAGuard guard(in.logp_chosen.device());
  const LossOutputs out = loss_outputs(in.logp_chosen, math::DirectSums::kMetrics);
  const Tensor d_rejected = gradient_like(in.logp_rejected);
  const Tensor workspace = workspace_on(in.logp_chosen, sum_workspace_bytes());
  AT_DISPATCH_FLOATING_TYPES(in.logp_chosen.scalar_type(), "direct_loss", [&] {
    const DirectLossArgs<scalar_t> args{in.logp_chosen.const_data_ptr<scalar_t>(),
                                        in.logp_rejected.const_data_ptr<scalar_t>(),
                                        data_or_null<scalar_t>(in.ref_chosen),
                                        data_or_null<scalar_t>(in.ref_rejected),
                                        in.weights.const_data_ptr<scalar_t>(),
                                        data_or_null<scalar_t>(in.length_chosen),
                                        data_or_null<scalar_t>(in.length_rejected),
                                        out.loss.mutable_data_ptr<scalar_t>(),
                                        out.metrics.mutable_data_ptr<double>(),
                                        out.grad.mutable_data_ptr<scalar_t>(),
                                        d_rejected.mutable_data_ptr<scalar_t>(),
                                        in.logp_chosen.numel(),
                                        cast<scalar_t>(params),
                                        workspace.mutable_data_ptr()};
    C10_CUDA_CHECK(launch_direct_loss(args, c10::cuda::getCurrentCUDAStream()));
  });
  return {out.loss, out.metrics, out.grad, d_rejected};
}

std::tuple<Tensor, Tensor, Tensor> kto_loss_cuda(const Tensor& logp, const Tensor& logp_ref,
                                                 const Tensor& desirable, const Tensor& weights,
                                                 const Tensor& kl, double beta,
                                                 double desirable_weight,
                                                 double undesirable_weight) {
  const auto params = kto_params(beta, desirable_weight, undesirable_weight);
  const KtoInputs in = check_kto_loss(logp, logp_ref, desirable, weights, kl);
  const c10::cuda::CUDAGuard guard(in.logp.device());
  const LossOutputs out = loss_outputs(in.logp, math::KtoSums::kMetrics);
  const Tensor workspace = workspace_on(in.logp, sum_workspace_bytes());
  AT_DISPATCH_FLOATING_TYPES(in.logp.scalar_type(), "kto_loss", [&] {
    const KtoLossArgs<scalar_t> args{in.logp.const_data_ptr<scalar_t>(),
                                     in.logp_ref.const_data_ptr<scalar_t>(),
                                     in.desirable.const_data_ptr<uint8_t>(),
                                     in.weights.const_data_ptr<scalar_t>(),
                                     in.kl.const_data_ptr<scalar_t>(),
                                     out.loss.mutable_data_ptr<scalar_t>(),
                                     out.metrics.mutable_data_ptr<double>(),
                                     out.grad.mutable_data_ptr<scalar_t>(),
                                     in.logp.numel(),
                                     cast<scalar_t>(params),
                                     workspace.mutable_data_ptr()};
    C10_CUDA_CHECK(launch_kto_loss(args, c10::cuda::getCurrentCUDAStream()));
  });
  return {out.loss, out.metrics, out.grad};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CUDA, m) {
  m.impl("ranking_loss_with_grad", &ranking_loss_cuda);
  m.impl("direct_loss_with_grad", &direct_loss_cuda);
  m.impl("kto_loss_with_grad", &kto_loss_cuda);
  m.impl("policy_loss_with_grad", &policy_loss_cuda);
  m.impl("value_loss_with_grad", &value_loss_cuda);
  m.impl("preference_loss_with_grad", &preference_loss_cuda);
}

}  // namespace hone::kernels::cuda
