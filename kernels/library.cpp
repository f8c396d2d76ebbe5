// The schemas of the RL ops in one table, and their typed C++ face (ops.h) through the dispatcher.
// Ops that end in _with_grad also return d loss / d input; kernels/autograd turns them into
// differentiable ops. The model ops are in library_model.cpp.

#include <torch/library.h>

#include "kernels/find_op.h"
#include "kernels/ops.h"

TORCH_LIBRARY(hone, m) {
  m.def(
      "advantages(Tensor logp_old, Tensor logp_ref, Tensor values, Tensor scores, "
      "Tensor cu_seqlens, Tensor? mask=None, *, Tensor? token_rewards=None, float kl_coef=0.0, "
      "str kl_estimator='k1', float? kl_clamp=None, str placement='last', float gamma=1.0, "
      "float lam=0.95) -> (Tensor advantages, Tensor returns, Tensor rewards, Tensor stats)");
  m.def("moments(Tensor x, Tensor? mask=None) -> Tensor");
  m.def("whiten(Tensor x, Tensor stats, bool unbiased=True, bool shift_mean=True) -> Tensor");
  m.def(
      "group_advantages(Tensor scores, int group_size, str kind='grpo', float eps=1e-6) -> Tensor");

#define HONE_POLICY_ARGUMENTS                                                              \
  "(Tensor logp_new, Tensor logp_old, Tensor advantages, Tensor? logp_ref, Tensor "        \
  "token_weights, *, float clip_low=0.2, float clip_high=0.2, float dual_clip=0.0, float " \
  "kl_coef=0.0, str kl_estimator='k3')"
  m.def("policy_loss" HONE_POLICY_ARGUMENTS " -> (Tensor loss, Tensor metrics)");
  m.def("policy_loss_with_grad" HONE_POLICY_ARGUMENTS
        " -> (Tensor loss, Tensor metrics, Tensor grad)");
#undef HONE_POLICY_ARGUMENTS

#define HONE_VALUE_ARGUMENTS \
  "(Tensor values, Tensor values_old, Tensor returns, Tensor token_weights, float clip=0.2)"
  m.def("value_loss" HONE_VALUE_ARGUMENTS " -> (Tensor loss, Tensor metrics)");
  m.def("value_loss_with_grad" HONE_VALUE_ARGUMENTS
        " -> (Tensor loss, Tensor metrics, Tensor grad)");
#undef HONE_VALUE_ARGUMENTS

#define HONE_PREFERENCE_ARGUMENTS                                          \
  "(Tensor delta, Tensor target, Tensor weights, Tensor? margin=None, *, " \
  "str model='bradley_terry', float tie=0.0, float lapse=0.0)"
  m.def("preference_loss" HONE_PREFERENCE_ARGUMENTS " -> Tensor");
  m.def("preference_loss_with_grad" HONE_PREFERENCE_ARGUMENTS " -> (Tensor loss, Tensor grad)");
#undef HONE_PREFERENCE_ARGUMENTS
}

namespace hone::kernels {
Advantages advantages(const Tensor& logp_old, const Tensor& logp_ref, const Tensor& values,
                      const Tensor& scores, const Tensor& cu_seqlens, const OptionalTensor& mask,
                      const AdvantageOptions& o, const OptionalTensor& token_rewards) {
  using Signature = std::tuple<Tensor, Tensor, Tensor, Tensor>(
      const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
      const OptionalTensor&, const OptionalTensor&, double, std::string_view, std::optional<double>,
      std::string_view, double, double);
  static const auto op = find_op<Signature>("hone::advantages");
  auto [advantages, returns, rewards, stats] =
      op.call(logp_old, logp_ref, values, scores, cu_seqlens, mask, token_rewards, o.kl_coef,
              o.kl_estimator, o.kl_clamp, o.placement, o.gamma, o.lambda);
  return {advantages, returns, rewards, stats};
}

Tensor moments(const Tensor& x, const OptionalTensor& mask) {
  static const auto op = find_op<Tensor(const Tensor&, const OptionalTensor&)>("hone::moments");
  return op.call(x, mask);
}

Tensor whiten(const Tensor& x, const Tensor& stats, bool unbiased, bool shift_mean) {
  static const auto op = find_op<Tensor(const Tensor&, const Tensor&, bool, bool)>("hone::whiten");
  return op.call(x, stats, unbiased, shift_mean);
}

Tensor group_advantages(const Tensor& scores, int64_t group_size, const std::string& kind,
                        double eps) {
  static const auto op =
      find_op<Tensor(const Tensor&, int64_t, std::string_view, double)>("hone::group_advantages");
  return op.call(scores, group_size, kind, eps);
}

PolicyLoss policy_loss(const Tensor& logp_new, const Tensor& logp_old, const Tensor& advantages,
                       const OptionalTensor& logp_ref, const Tensor& token_weights,
                       const PolicyLossOptions& o) {
  using Signature =
      std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&,
                                 const Tensor&, double, double, double, double, std::string_view);
  static const auto op = find_op<Signature>("hone::policy_loss");
  auto [loss, metrics] = op.call(logp_new, logp_old, advantages, logp_ref, token_weights,
                                 o.clip_low, o.clip_high, o.dual_clip, o.kl_coef, o.kl_estimator);
  return {loss, metrics};
}

ValueLoss value_loss(const Tensor& values, const Tensor& values_old, const Tensor& returns,
                     const Tensor& token_weights, double clip) {
  using Signature = std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&,
                                               const Tensor&, double);
  static const auto op = find_op<Signature>("hone::value_loss");
  auto [loss, metrics] = op.call(values, values_old, returns, token_weights, clip);
  return {loss, metrics};
}

Tensor preference_loss(const Tensor& delta, const Tensor& target, const Tensor& weights,
                       const OptionalTensor& margin, const PreferenceLossOptions& o) {
  using Signature = Tensor(const Tensor&, const Tensor&, const Tensor&, const OptionalTensor&,
                           std::string_view, double, double);
  static const auto op = find_op<Signature>("hone::preference_loss");
  return op.call(delta, target, weights, margin, o.model, o.tie, o.lapse);
}

}  // namespace hone::kernels
