// The schemas of the losses, and their typed C++ face (loss_ops.h) through the dispatcher. Ops that
// end in _with_grad also return d loss / d input; kernels/autograd turns them into differentiable
// ops.

#include <torch/library.h>

#include "kernels/find_op.h"
#include "kernels/loss_ops.h"

TORCH_LIBRARY_FRAGMENT(hone, m) {
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
