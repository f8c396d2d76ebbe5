// The CUDA halves of the ops that end in the language-model head: the shared chunk loop, with the
// row passes of token_logprobs.cu.

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/eq.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/neg.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <optional>
#include <type_traits>

#include "kernels/bfloat16.h"
#include "kernels/composite/device_head.h"
#include "kernels/cuda/model_launchers.h"
#include "kernels/find_op.h"
#include "kernels/head_policy_inputs.h"
#include "kernels/loss_signatures.h"

namespace hone::kernels::cuda {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

/// The tensors of one call, on one device. bfloat16 hidden states and weight stay what they are:
/// the GEMMs take them on tensor cores and give float32.
struct Head {
  HeadInputs in;
  double temperature;
  Tensor logprobs, entropy;

  Head(const char* op, const Tensor& hidden, const Tensor& weight, const Tensor& targets,
       const OptionalTensor& bias, double temperature_in)
      : in(check_head(op, hidden, weight, targets, bias, temperature_in)),
        temperature(temperature_in) {
    const auto options = values_options();
    logprobs = at::empty({in.hidden.size(0)}, options);
    entropy = at::empty({in.hidden.size(0)}, options);
  }

  /// Of what is computed from the logits.
  at::TensorOptions values_options() const {
    return in.hidden.options().dtype(compute_type(in.hidden.scalar_type()));
  }

  template <typename T>
  HeadRowArgs<T> rows(const Tensor& logits, int64_t begin) const {
    return {logits.const_data_ptr<T>(),
            logits.stride(0),
            in.targets.const_data_ptr<int64_t>() + begin,
            logprobs.mutable_data_ptr<T>() + begin,
            entropy.mutable_data_ptr<T>() + begin,
            logits.size(0),
            logits.size(1),
            temperature};
  }

  void forward_rows(const Tensor& logits, int64_t begin) const {
    AT_DISPATCH_FLOATING_TYPES(logits.scalar_type(), "head", [&] {
      C10_CUDA_CHECK(launch_head_rows_forward(rows<scalar_t>(logits, begin),
                                              c10::cuda::getCurrentCUDAStream()));
    });
  }

  /// `grad`, `grad_entropy`: of all tokens, contiguous; either may be undefined.
  void backward_rows(const Tensor& logits, int64_t begin, const Tensor& d_logits,
                     const Tensor& grad, const Tensor& grad_entropy = {}) const {
    AT_DISPATCH_FLOATING_TYPES(logits.scalar_type(), "head", [&] {
      const auto from = [&](const Tensor& x) -> const scalar_t* {
        return x.defined() ? x.const_data_ptr<scalar_t>() + begin : nullptr;
      };
      const auto launch = [&](auto* to) {
        using D = std::remove_pointer_t<decltype(to)>;
        const HeadRowGradients<scalar_t, D> gradients{to, d_logits.stride(0), from(grad),
                                                      from(grad_entropy)};
        C10_CUDA_CHECK(launch_head_rows_backward(rows<scalar_t>(logits, begin), gradients,
                                                 c10::cuda::getCurrentCUDAStream()));
      };
      if constexpr (std::is_same_v<scalar_t, float>) {
        if (d_logits.scalar_type() == at::kBFloat16) {
          return launch(static_cast<math::Bfloat16*>(d_logits.mutable_data_ptr()));
        }
      }
      launch(d_logits.mutable_data_ptr<scalar_t>());
    });
  }
};

/// Weighted sum that a masked token's infinity does not reach.
Tensor weighted_sum(const Tensor& weights, const Tensor& x) {
  return at::sum(at::where(at::eq(weights, 0), at::zeros_like(weights), at::mul(weights, x)));
}

std::tuple<Tensor, Tensor> token_logprobs_cuda(const Tensor& hidden, const Tensor& weight,
                                               const Tensor& targets, double temperature,
                                               const OptionalTensor& bias) {
  const Head head("token_logprobs", hidden, weight, targets, bias, temperature);
  const c10::cuda::CUDAGuard guard(hidden.device());
  for_each_device_head_chunk(head.in, kForwardOnly,
                             [&](const Tensor& logits, int64_t begin, const Tensor&) {
                               head.forward_rows(logits, begin);
                             });
  return {head.logprobs, head.entropy};
}

std::tuple<Tensor, Tensor, Tensor> token_logprobs_backward_cuda(
    const OptionalTensor& grad, const OptionalTensor& grad_entropy, const Tensor& hidden,
    const Tensor& weight, const Tensor& targets, const OptionalTensor& bias, const Tensor& logprobs,
    const Tensor& entropy, double temperature, std::array<bool, 3> needs) {
  constexpr const char* kOp = "token_logprobs";
  Head head(kOp, hidden, weight, targets, bias, temperature);
  const c10::cuda::CUDAGuard guard(hidden.device());
  head.logprobs = logprobs.contiguous();
  head.entropy = entropy.contiguous();
  const auto values = [&](const OptionalTensor& x, const char* argument) {
    return x.has_value() ? head_token_values(kOp, argument, *x, head.in.hidden) : Tensor();
  };
  const Tensor g = values(grad, "grad"), h = values(grad_entropy, "grad_entropy");
  const auto gradients = for_each_device_head_chunk(
      head.in, needs, [&](const Tensor& logits, int64_t begin, const Tensor& d_logits) {
        head.backward_rows(logits, begin, d_logits, g, h);
      });
  return {rounded(gradients.hidden, hidden), rounded(gradients.weight, weight),
          rounded(gradients.bias, weight)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> head_nll_grad_cuda(
    const Tensor& hidden, const Tensor& weight, const Tensor& targets, const Tensor& token_weights,
    double temperature, const OptionalTensor& bias, std::array<bool, 3> needs) {
  const Head head("head_nll", hidden, weight, targets, bias, temperature);
  const c10::cuda::CUDAGuard guard(hidden.device());
  const Tensor weights =
      head_token_values("head_nll", "token_weights", token_weights, head.in.hidden);
  const Tensor grad = at::neg(weights);
  const auto gradients = for_each_device_head_chunk(
      head.in, needs, [&](const Tensor& logits, int64_t begin, const Tensor& d_logits) {
        head.forward_rows(logits, begin);
        if (any(needs)) head.backward_rows(logits, begin, d_logits, grad);
      });
  return {weighted_sum(grad, head.logprobs), head.logprobs, rounded(gradients.hidden, hidden),
          rounded(gradients.weight, weight), rounded(gradients.bias, weight)};
}

std::tuple<Tensor, Tensor> head_nll_cuda(const Tensor& hidden, const Tensor& weight,
                                         const Tensor& targets, const Tensor& token_weights,
                                         double temperature, const OptionalTensor& bias) {
  const auto all =
      head_nll_grad_cuda(hidden, weight, targets, token_weights, temperature, bias, kForwardOnly);
  return {std::get<0>(all), std::get<1>(all)};
}

/// policy_loss_with_grad chunk by chunk: every field of the metrics adds up but [4], a maximum, and
/// [5], whose exact value the head knows.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> head_policy_loss_grad_cuda(
    const Tensor& hidden, const Tensor& weight, const Tensor& targets, const Tensor& logp_old,
    const Tensor& advantages, const OptionalTensor& logp_ref, const Tensor& token_weights,
    double temperature, double clip_low, double clip_high, double dual_clip, double kl_coef,
    std::string_view kl_estimator, const OptionalTensor& bias, const OptionalTensor& logp_behaviour,
    std::string_view kind, double tau_positive, double tau_negative, std::string_view behaviour,
    double behaviour_low, double behaviour_high, double entropy_coef, std::array<bool, 3> needs) {
  constexpr const char* kOp = "head_policy_loss";
  static const auto policy_op =
      find_op<signatures::PolicyLossWithGrad>("hone::policy_loss_with_grad");
  const Head head(kOp, hidden, weight, targets, bias, temperature);
  const HeadPolicyTokens values = check_head_policy(
      head.in.hidden, logp_old, advantages, logp_ref, token_weights, logp_behaviour,
      {kind, clip_low, clip_high, dual_clip, kl_coef, kl_estimator, tau_positive, tau_negative,
       behaviour, behaviour_low, behaviour_high},
      entropy_coef);
  const c10::cuda::CUDAGuard guard(hidden.device());
  Tensor loss = at::zeros({}, head.values_options());
  Tensor metrics =
      at::zeros({math::PolicySums::kMetrics}, head.values_options().dtype(at::kDouble));
  const Tensor grad = at::empty_like(head.logprobs);
  const Tensor grad_entropy =
      entropy_coef == 0 ? Tensor() : at::mul(values.token_weights, -entropy_coef);
  const auto gradients = for_each_device_head_chunk(
      head.in, needs, [&](const Tensor& logits, int64_t begin, const Tensor& d_logits) {
        head.forward_rows(logits, begin);
        const auto part = [&](const Tensor& x) { return x.narrow(0, begin, logits.size(0)); };
        const auto optional_part = [&](const Tensor& x) {
          return x.defined() ? OptionalTensor(part(x)) : std::nullopt;
        };
        const auto [chunk_loss, chunk_metrics, chunk_grad] = policy_op.call(
            part(head.logprobs), part(values.logp_old), part(values.advantages),
            optional_part(values.logp_ref), part(values.token_weights), std::nullopt,
            optional_part(values.logp_behaviour), kind, clip_low, clip_high, dual_clip, kl_coef,
            kl_estimator, tau_positive, tau_negative, behaviour, behaviour_low, behaviour_high);
        loss.add_(chunk_loss);
        const Tensor largest = metrics[4].maximum(chunk_metrics[4]);
        metrics.add_(chunk_metrics);
        metrics[4].copy_(largest);
        part(grad).copy_(chunk_grad);
        if (any(needs)) head.backward_rows(logits, begin, d_logits, grad, grad_entropy);
      });
  const Tensor entropy = weighted_sum(values.token_weights, head.entropy);
  metrics[5].copy_(entropy);
  if (entropy_coef != 0) loss.sub_(at::mul(entropy, entropy_coef));
  return {loss,
          metrics,
          head.logprobs,
          head.entropy,
          rounded(gradients.hidden, hidden),
          rounded(gradients.weight, weight),
          rounded(gradients.bias, weight)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> head_policy_loss_cuda(
    const Tensor& hidden, const Tensor& weight, const Tensor& targets, const Tensor& logp_old,
    const Tensor& advantages, const OptionalTensor& logp_ref, const Tensor& token_weights,
    double temperature, double clip_low, double clip_high, double dual_clip, double kl_coef,
    std::string_view kl_estimator, const OptionalTensor& bias, const OptionalTensor& logp_behaviour,
    std::string_view kind, double tau_positive, double tau_negative, std::string_view behaviour,
    double behaviour_low, double behaviour_high, double entropy_coef) {
  const auto all = head_policy_loss_grad_cuda(
      hidden, weight, targets, logp_old, advantages, logp_ref, token_weights, temperature, clip_low,
      clip_high, dual_clip, kl_coef, kl_estimator, bias, logp_behaviour, kind, tau_positive,
      tau_negative, behaviour, behaviour_low, behaviour_high, entropy_coef, kForwardOnly);
  return {std::get<0>(all), std::get<1>(all), std::get<2>(all), std::get<3>(all)};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CUDA, m) {
  m.impl("token_logprobs", &token_logprobs_cuda);
  m.impl("_token_logprobs_backward", &token_logprobs_backward_cuda);
  m.impl("head_nll", &head_nll_cuda);
  m.impl("_head_nll_grad", &head_nll_grad_cuda);
  m.impl("head_policy_loss", &head_policy_loss_cuda);
  m.impl("_head_policy_loss_grad", &head_policy_loss_grad_cuda);
}

}  // namespace hone::kernels::cuda
