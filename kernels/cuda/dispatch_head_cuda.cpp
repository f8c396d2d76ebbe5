// The CUDA halves of the ops that end in the language-model head: the shared chunk loop, with the
// row passes of token_logprobs.cu.

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/dot.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/eq.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/neg.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <optional>

#include "kernels/bfloat16.h"
#include "kernels/checks.h"
#include "kernels/composite/chunked_head.h"
#include "kernels/cuda/model_launchers.h"
#include "kernels/find_op.h"
#include "kernels/loss_options.h"

namespace hone::kernels::cuda {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

/// The tensors of one call, on one device.
struct Head {
  Tensor hidden, weight, targets;
  double temperature;
  Tensor logprobs, entropy;

  Head(const char* op, const Tensor& hidden_in, const Tensor& weight_in, const Tensor& targets_in,
       double temperature_in)
      : temperature(temperature_in) {
    check_head(op, hidden_in, weight_in, targets_in, temperature);
    hidden = computed(hidden_in);
    weight = computed(weight_in);
    targets = targets_in.contiguous();
    logprobs = at::empty({hidden.size(0)}, hidden.options());
    entropy = at::empty({hidden.size(0)}, hidden.options());
  }

  template <typename T>
  HeadRowArgs<T> rows(const Tensor& logits, int64_t begin) const {
    return {logits.mutable_data_ptr<T>(),
            targets.const_data_ptr<int64_t>() + begin,
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

  /// `grad` [rows] contiguous: d loss / d logprob of the chunk.
  void backward_rows(const Tensor& logits, int64_t begin, const Tensor& grad) const {
    AT_DISPATCH_FLOATING_TYPES(logits.scalar_type(), "head", [&] {
      C10_CUDA_CHECK(launch_head_rows_backward(rows<scalar_t>(logits, begin),
                                               grad.const_data_ptr<scalar_t>(),
                                               c10::cuda::getCurrentCUDAStream()));
    });
  }
};

std::tuple<Tensor, Tensor> token_logprobs_cuda(const Tensor& hidden, const Tensor& weight,
                                               const Tensor& targets, double temperature) {
  const Head head("token_logprobs", hidden, weight, targets, temperature);
  const c10::cuda::CUDAGuard guard(hidden.device());
  for_each_head_chunk(
      head.hidden, head.weight, false, false,
      [&](const Tensor& logits, int64_t begin) { head.forward_rows(logits, begin); });
  return {head.logprobs, head.entropy};
}

std::tuple<Tensor, Tensor> token_logprobs_backward_cuda(const Tensor& grad, const Tensor& hidden,
                                                        const Tensor& weight, const Tensor& targets,
                                                        const Tensor& logprobs, double temperature,
                                                        bool need_hidden, bool need_weight) {
  Head head("token_logprobs", hidden, weight, targets, temperature);
  const c10::cuda::CUDAGuard guard(hidden.device());
  head.logprobs = logprobs.contiguous();
  const Tensor g = head_token_values("token_logprobs", "grad", grad, head.hidden);
  auto [d_hidden, d_weight] = for_each_head_chunk(
      head.hidden, head.weight, need_hidden, need_weight, [&](const Tensor& logits, int64_t begin) {
        head.backward_rows(logits, begin, g.narrow(0, begin, logits.size(0)));
      });
  return {rounded(d_hidden, hidden), rounded(d_weight, weight)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> head_nll_grad_cuda(
    const Tensor& hidden, const Tensor& weight, const Tensor& targets, const Tensor& token_weights,
    double temperature, bool need_hidden, bool need_weight) {
  const Head head("head_nll", hidden, weight, targets, temperature);
  const c10::cuda::CUDAGuard guard(hidden.device());
  const Tensor weights = head_token_values("head_nll", "token_weights", token_weights, head.hidden);
  const Tensor grad = at::neg(weights);
  auto [d_hidden, d_weight] = for_each_head_chunk(
      head.hidden, head.weight, need_hidden, need_weight, [&](const Tensor& logits, int64_t begin) {
        head.forward_rows(logits, begin);
        if (need_hidden || need_weight) {
          head.backward_rows(logits, begin, grad.narrow(0, begin, logits.size(0)));
        }
      });
  // 0 * -inf of a masked token must not reach the loss.
  const Tensor terms =
      at::where(at::eq(weights, 0), at::zeros_like(weights), at::mul(grad, head.logprobs));
  return {at::sum(terms), head.logprobs, rounded(d_hidden, hidden), rounded(d_weight, weight)};
}

std::tuple<Tensor, Tensor> head_nll_cuda(const Tensor& hidden, const Tensor& weight,
                                         const Tensor& targets, const Tensor& token_weights,
                                         double temperature) {
  auto [loss, logprobs, d_hidden, d_weight] =
      head_nll_grad_cuda(hidden, weight, targets, token_weights, temperature, false, false);
  return {loss, logprobs};
}

/// policy_loss_with_grad chunk by chunk: every field of the metrics adds up but the last, a
/// maximum.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> head_policy_loss_grad_cuda(
    const Tensor& hidden, const Tensor& weight, const Tensor& targets, const Tensor& logp_old,
    const Tensor& advantages, const OptionalTensor& logp_ref, const Tensor& token_weights,
    double temperature, double clip_low, double clip_high, double dual_clip, double kl_coef,
    c10::string_view kl_estimator, bool need_hidden, bool need_weight) {
  constexpr const char* kOp = "head_policy_loss";
  static const auto policy_op = find_op<std::tuple<Tensor, Tensor, Tensor>(
      const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&, const Tensor&, double,
      double, double, double, c10::string_view)>("hone::policy_loss_with_grad");
  const bool has_ref = logp_ref && logp_ref->defined();
  policy_params(kOp, clip_low, clip_high, dual_clip, kl_coef,
                {kl_estimator.data(), kl_estimator.size()}, has_ref);
  const Head head(kOp, hidden, weight, targets, temperature);
  const c10::cuda::CUDAGuard guard(hidden.device());
  const Tensor old = head_token_values(kOp, "logp_old", logp_old, head.hidden);
  const Tensor advantage = head_token_values(kOp, "advantages", advantages, head.hidden);
  const Tensor weights = head_token_values(kOp, "token_weights", token_weights, head.hidden);
  OptionalTensor ref;
  if (kl_coef != 0) ref = head_token_values(kOp, "logp_ref", *logp_ref, head.hidden);

  Tensor loss = at::zeros({}, head.hidden.options());
  Tensor metrics = at::zeros({5}, head.hidden.options().dtype(at::kDouble));
  auto [d_hidden, d_weight] = for_each_head_chunk(
      head.hidden, head.weight, need_hidden, need_weight, [&](const Tensor& logits, int64_t begin) {
        head.forward_rows(logits, begin);
        const auto part = [&](const Tensor& x) { return x.narrow(0, begin, logits.size(0)); };
        OptionalTensor ref_part;
        if (ref) ref_part = part(*ref);
        auto [chunk_loss, chunk_metrics, grad] =
            policy_op.call(part(head.logprobs), part(old), part(advantage), ref_part, part(weights),
                           clip_low, clip_high, dual_clip, kl_coef, kl_estimator);
        loss.add_(chunk_loss);
        const Tensor largest = metrics[4].maximum(chunk_metrics[4]);
        metrics.add_(chunk_metrics);
        metrics[4].copy_(largest);
        if (need_hidden || need_weight) head.backward_rows(logits, begin, grad.contiguous());
      });
  return {loss,
          metrics,
          head.logprobs,
          head.entropy,
          rounded(d_hidden, hidden),
          rounded(d_weight, weight)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> head_policy_loss_cuda(
    const Tensor& hidden, const Tensor& weight, const Tensor& targets, const Tensor& logp_old,
    const Tensor& advantages, const OptionalTensor& logp_ref, const Tensor& token_weights,
    double temperature, double clip_low, double clip_high, double dual_clip, double kl_coef,
    c10::string_view kl_estimator) {
  auto [loss, metrics, logprobs, entropy, d_hidden, d_weight] = head_policy_loss_grad_cuda(
      hidden, weight, targets, logp_old, advantages, logp_ref, token_weights, temperature, clip_low,
      clip_high, dual_clip, kl_coef, kl_estimator, false, false);
  return {loss, metrics, logprobs, entropy};
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
