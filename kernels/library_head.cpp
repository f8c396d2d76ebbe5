// Schemas of the ops that end in the language-model head, and their typed C++ faces. Ops whose name
// starts with an underscore carry gradients from forward to backward; they are no interface.

#include <torch/library.h>

#include "kernels/find_op.h"
#include "kernels/loss_ops.h"

#define HONE_HEAD_ARGS "Tensor hidden, Tensor weight, Tensor targets"
#define HONE_POLICY_ARGS                                                                 \
  "Tensor logp_old, Tensor advantages, Tensor? logp_ref, Tensor token_weights, "         \
  "float temperature, float clip_low, float clip_high, float dual_clip, float kl_coef, " \
  "str kl_estimator"

TORCH_LIBRARY_FRAGMENT(hone, m) {
  m.def("token_logprobs(" HONE_HEAD_ARGS ", float temperature=1.0) -> (Tensor, Tensor)");
  m.def("_token_logprobs_backward(Tensor grad, " HONE_HEAD_ARGS
        ", Tensor logprobs, float temperature, bool need_hidden, bool need_weight)"
        " -> (Tensor, Tensor)");
  m.def("head_nll(" HONE_HEAD_ARGS
        ", Tensor token_weights, float temperature=1.0) -> (Tensor, Tensor)");
  m.def("_head_nll_grad(" HONE_HEAD_ARGS
        ", Tensor token_weights, float temperature, bool need_hidden, bool need_weight)"
        " -> (Tensor, Tensor, Tensor, Tensor)");
  m.def("head_policy_loss(" HONE_HEAD_ARGS ", " HONE_POLICY_ARGS
        ") -> (Tensor, Tensor, Tensor, Tensor)");
  m.def("_head_policy_loss_grad(" HONE_HEAD_ARGS ", " HONE_POLICY_ARGS
        ", bool need_hidden, bool need_weight)"
        " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}

namespace hone::kernels {
namespace {

using In = const Tensor&;

}  // namespace

TokenLogprobs token_logprobs(In hidden, In weight, In targets, double temperature) {
  static const auto op =
      find_op<std::tuple<Tensor, Tensor>(In, In, In, double)>("hone::token_logprobs");
  auto [logprobs, entropy] = op.call(hidden, weight, targets, temperature);
  return {logprobs, entropy};
}

HeadLoss head_nll(In hidden, In weight, In targets, In token_weights, double temperature) {
  static const auto op =
      find_op<std::tuple<Tensor, Tensor>(In, In, In, In, double)>("hone::head_nll");
  auto [loss, logprobs] = op.call(hidden, weight, targets, token_weights, temperature);
  return {loss, logprobs};
}

HeadPolicyLoss head_policy_loss(In hidden, In weight, In targets, In logp_old, In advantages,
                                const OptionalTensor& logp_ref, In token_weights,
                                double temperature, const PolicyLossOptions& options) {
  static const auto op = find_op<std::tuple<Tensor, Tensor, Tensor, Tensor>(
      In, In, In, In, In, const OptionalTensor&, In, double, double, double, double, double,
      c10::string_view)>("hone::head_policy_loss");
  auto [loss, metrics, logprobs, entropy] =
      op.call(hidden, weight, targets, logp_old, advantages, logp_ref, token_weights, temperature,
              options.clip_low, options.clip_high, options.dual_clip, options.kl_coef,
              options.kl_estimator);
  return {loss, metrics, logprobs, entropy};
}

}  // namespace hone::kernels
