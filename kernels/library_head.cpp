// Schemas of the ops that end in the language-model head, and their typed C++ faces. Ops whose name
// starts with an underscore carry gradients from forward to backward; they are no interface.

#include <torch/library.h>

#include "kernels/find_op.h"
#include "kernels/loss_ops.h"
#include "kernels/loss_signatures.h"

#define HONE_HEAD_ARGS "Tensor hidden, Tensor weight, Tensor targets"
#define HONE_POLICY_ARGS                                                                          \
  "Tensor logp_old, Tensor advantages, Tensor? logp_ref, Tensor token_weights, "                  \
  "float temperature=1.0, float clip_low=0.2, float clip_high=0.2, float dual_clip=0.0, "         \
  "float kl_coef=0.0, str kl_estimator='k3', *, Tensor? bias=None, Tensor? logp_behaviour=None, " \
  "str kind='ppo', float tau_positive=1.0, float tau_negative=1.05, "                             \
  "str behaviour='token_truncate', float behaviour_low=0.0, float behaviour_high=2.0, "           \
  "float entropy_coef=0.0"

TORCH_LIBRARY_FRAGMENT(hone, m) {
  m.def("token_logprobs(" HONE_HEAD_ARGS
        ", float temperature=1.0, *, Tensor? bias=None) -> (Tensor logprobs, Tensor entropy)");
  m.def("_token_logprobs_backward(Tensor? grad, Tensor? grad_entropy, " HONE_HEAD_ARGS
        ", Tensor? bias, Tensor logprobs, Tensor entropy, float temperature, bool[3] needs)"
        " -> (Tensor, Tensor, Tensor)");
  m.def("token_top_logprobs(" HONE_HEAD_ARGS
        ", int k, float temperature=1.0, *, Tensor? bias=None)"
        " -> (Tensor logprobs, Tensor entropy, Tensor top_logprobs, Tensor top_ids)");
  m.def("head_nll(" HONE_HEAD_ARGS
        ", Tensor token_weights, float temperature=1.0, *, Tensor? bias=None)"
        " -> (Tensor loss, Tensor logprobs)");
  m.def("_head_nll_grad(" HONE_HEAD_ARGS
        ", Tensor token_weights, float temperature, Tensor? bias, bool[3] needs)"
        " -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def("head_policy_loss(" HONE_HEAD_ARGS ", " HONE_POLICY_ARGS
        ") -> (Tensor loss, Tensor metrics, Tensor logprobs, Tensor entropy)");
  m.def("_head_policy_loss_grad(" HONE_HEAD_ARGS ", " HONE_POLICY_ARGS
        ", bool[3] needs=[True, True, True])"
        " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
}

namespace hone::kernels {
namespace {

using In = const Tensor&;
using InOptional = const OptionalTensor&;

}  // namespace

TokenLogprobs token_logprobs(In hidden, In weight, In targets, double temperature,
                             InOptional bias) {
  static const auto op = find_op<signatures::TokenLogprobs>("hone::token_logprobs");
  auto [logprobs, entropy] = op.call(hidden, weight, targets, temperature, bias);
  return {logprobs, entropy};
}

TopLogprobs token_top_logprobs(In hidden, In weight, In targets, int64_t k, double temperature,
                               InOptional bias) {
  static const auto op = find_op<signatures::TokenTopLogprobs>("hone::token_top_logprobs");
  auto [logprobs, entropy, top_logprobs, top_ids] =
      op.call(hidden, weight, targets, k, temperature, bias);
  return {logprobs, entropy, top_logprobs, top_ids};
}

HeadLoss head_nll(In hidden, In weight, In targets, In token_weights, double temperature,
                  InOptional bias) {
  static const auto op = find_op<signatures::HeadNll>("hone::head_nll");
  auto [loss, logprobs] = op.call(hidden, weight, targets, token_weights, temperature, bias);
  return {loss, logprobs};
}

HeadPolicyLoss head_policy_loss(In hidden, In weight, In targets, In logp_old, In advantages,
                                InOptional logp_ref, In token_weights, double temperature,
                                const PolicyLossOptions& o, InOptional bias,
                                InOptional logp_behaviour, double entropy_coef) {
  static const auto op = find_op<signatures::HeadPolicyLoss>("hone::head_policy_loss");
  auto [loss, metrics, logprobs, entropy] = op.call(
      hidden, weight, targets, logp_old, advantages, logp_ref, token_weights, temperature,
      o.clip_low, o.clip_high, o.dual_clip, o.kl_coef, o.kl_estimator, bias, logp_behaviour, o.kind,
      o.tau_positive, o.tau_negative, o.behaviour, o.behaviour_low, o.behaviour_high, entropy_coef);
  return {loss, metrics, logprobs, entropy};
}

}  // namespace hone::kernels
