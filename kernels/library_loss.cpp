// The schemas of the losses, and their typed C++ face (loss_ops.h) through the dispatcher. Ops that
// end in _with_grad also return d loss / d input; kernels/autograd turns them into differentiable
// ops.

#include <torch/library.h>

#include "kernels/find_op.h"
#include "kernels/loss_ops.h"
#include "kernels/loss_signatures.h"

namespace hone::kernels {
namespace {

/// hone::name and hone::name_with_grad, which also returns `grads`.
void define_loss(torch::Library& m, const std::string& name, const std::string& arguments,
                 const std::string& outputs, const std::string& grads) {
  m.def((name + arguments + " -> (" + outputs + ")").c_str());
  m.def((name + "_with_grad" + arguments + " -> (" + outputs + ", " + grads + ")").c_str());
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(hone, m) {
  m.def(
      "token_weights(Tensor mask, Tensor cu_seqlens, *, str aggregation='token_mean', "
      "float? tokens=None, float? sequences=None, int length=0, ScalarType? dtype=None) -> Tensor");
  define_loss(m, "policy_loss",
              "(Tensor logp_new, Tensor logp_old, Tensor advantages, Tensor? logp_ref, "
              "Tensor token_weights, *, Tensor? cu_seqlens=None, Tensor? logp_behaviour=None, "
              "str kind='ppo', float clip_low=0.2, float clip_high=0.2, float dual_clip=0.0, "
              "float kl_coef=0.0, str kl_estimator='k3', float tau_positive=1.0, "
              "float tau_negative=1.05, str behaviour='token_truncate', float behaviour_low=0.0, "
              "float behaviour_high=2.0)",
              "Tensor loss, Tensor metrics", "Tensor grad");
  define_loss(m, "value_loss",
              "(Tensor values, Tensor values_old, Tensor returns, Tensor token_weights, "
              "float clip=0.2)",
              "Tensor loss, Tensor metrics", "Tensor grad");
  define_loss(m, "preference_loss",
              "(Tensor delta, Tensor target, Tensor weights, Tensor? margin=None, *, "
              "str model='bradley_terry', float tie=0.0, float lapse=0.0)",
              "Tensor loss", "Tensor grad");
  define_loss(m, "ranking_loss",
              "(Tensor scores, Tensor cu_seqlens, Tensor? ranks, Tensor weights, *, "
              "str model='plackett_luce', float tie=0.0, float lapse=0.0)",
              "Tensor loss", "Tensor grad");
  define_loss(m, "direct_loss",
              "(Tensor logp_chosen, Tensor logp_rejected, Tensor? ref_chosen, "
              "Tensor? ref_rejected, Tensor weights, *, Tensor? length_chosen=None, "
              "Tensor? length_rejected=None, str kind='dpo', float beta=0.1, "
              "float label_smoothing=0.0, float margin=0.0, float? nll_coef=None)",
              "Tensor loss, Tensor metrics", "Tensor grad_chosen, Tensor grad_rejected");
  define_loss(m, "kto_loss",
              "(Tensor logp, Tensor logp_ref, Tensor desirable, Tensor weights, Tensor kl, *, "
              "float beta=0.1, float desirable_weight=1.0, float undesirable_weight=1.0)",
              "Tensor loss, Tensor metrics", "Tensor grad");
}

namespace {

using In = const Tensor&;
using InOptional = const OptionalTensor&;

/// The signature of X from that of X_with_grad.
template <typename Signature>
struct LossSignature;
template <typename Grad, typename... Arguments>
struct LossSignature<std::tuple<Tensor, Grad>(Arguments...)> {
  using Type = Tensor(Arguments...);
};
template <typename... Grads, typename... Arguments>
struct LossSignature<std::tuple<Tensor, Tensor, Tensor, Grads...>(Arguments...)> {
  using Type = std::tuple<Tensor, Tensor>(Arguments...);
};

template <typename Signature>
auto find_loss(const char* name) {
  return find_op<typename LossSignature<Signature>::Type>(name);
}

}  // namespace

Tensor token_weights(In mask, In cu_seqlens, const AggregationOptions& o, at::ScalarType dtype) {
  using Signature = Tensor(In, In, std::string_view, std::optional<double>, std::optional<double>,
                           int64_t, std::optional<at::ScalarType>);
  static const auto op = find_op<Signature>("hone::token_weights");
  return op.call(mask, cu_seqlens, o.aggregation, o.tokens, o.sequences, o.length, dtype);
}

PolicyLoss policy_loss(In logp_new, In logp_old, In advantages, InOptional logp_ref,
                       In token_weights, const PolicyLossOptions& o, InOptional cu_seqlens,
                       InOptional logp_behaviour) {
  static const auto op = find_loss<signatures::PolicyLossWithGrad>("hone::policy_loss");
  auto [loss, metrics] =
      op.call(logp_new, logp_old, advantages, logp_ref, token_weights, cu_seqlens, logp_behaviour,
              o.kind, o.clip_low, o.clip_high, o.dual_clip, o.kl_coef, o.kl_estimator,
              o.tau_positive, o.tau_negative, o.behaviour, o.behaviour_low, o.behaviour_high);
  return {loss, metrics};
}

ValueLoss value_loss(In values, In values_old, In returns, In token_weights, double clip) {
  static const auto op = find_loss<signatures::ValueLossWithGrad>("hone::value_loss");
  auto [loss, metrics] = op.call(values, values_old, returns, token_weights, clip);
  return {loss, metrics};
}

Tensor preference_loss(In delta, In target, In weights, InOptional margin,
                       const PreferenceLossOptions& o) {
  static const auto op = find_loss<signatures::PreferenceLossWithGrad>("hone::preference_loss");
  return op.call(delta, target, weights, margin, o.model, o.tie, o.lapse);
}

Tensor ranking_loss(In scores, In cu_seqlens, InOptional ranks, In weights,
                    const RankingLossOptions& o) {
  static const auto op = find_loss<signatures::RankingLossWithGrad>("hone::ranking_loss");
  return op.call(scores, cu_seqlens, ranks, weights, o.model, o.tie, o.lapse);
}

DirectLoss direct_loss(const DirectPairs& p, In weights, const DirectLossOptions& o) {
  static const auto op = find_loss<signatures::DirectLossWithGrad>("hone::direct_loss");
  auto [loss, metrics] = op.call(p.logp_chosen, p.logp_rejected, p.ref_chosen, p.ref_rejected,
                                 weights, p.length_chosen, p.length_rejected, o.kind, o.beta,
                                 o.label_smoothing, o.margin, o.nll_coef);
  return {loss, metrics};
}

DirectLoss kto_loss(In logp, In logp_ref, In desirable, In weights, In kl,
                    const KtoLossOptions& o) {
  static const auto op = find_loss<signatures::KtoLossWithGrad>("hone::kto_loss");
  auto [loss, metrics] = op.call(logp, logp_ref, desirable, weights, kl, o.beta, o.desirable_weight,
                                 o.undesirable_weight);
  return {loss, metrics};
}

}  // namespace hone::kernels
