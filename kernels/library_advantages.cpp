// The schemas of the advantage ops in one table, and their typed C++ face (advantage_ops.h) through
// the dispatcher. The losses are in library_loss.cpp, the model ops in library_model.cpp.

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "kernels/bfloat16.h"
#include "kernels/checks.h"
#include "kernels/find_op.h"
#include "kernels/ops.h"
#include "kernels/recycled.h"

#define HONE_ADVANTAGE_INPUTS                                                          \
  "Tensor logp_old, Tensor? logp_ref, Tensor? values, Tensor? scores, "                \
  "Tensor? cu_seqlens=None, Tensor? mask=None, *, Tensor? lengths=None, "              \
  "Tensor? token_rewards=None, Tensor? logp_behaviour=None, "                          \
  "Tensor? bootstrap_values=None, float kl_coef=0.0, str kl_estimator='k1', "          \
  "float? kl_clamp=None, str placement='last', str estimator='gae', float gamma=1.0, " \
  "float lam=0.95, float rho_clip=1.0, float c_clip=1.0"

TORCH_LIBRARY(hone, m) {
  m.def("advantages(" HONE_ADVANTAGE_INPUTS
        ", bool store_rewards=True) "
        "-> (Tensor advantages, Tensor returns, Tensor rewards, Tensor stats)");
  m.def(
      "advantages_into(Tensor(a!) advantages, Tensor(b!) returns, Tensor(c!)? rewards, "
      "Tensor(d!) stats, " HONE_ADVANTAGE_INPUTS ") -> ()");
  m.def("moments(Tensor x, Tensor? mask=None) -> Tensor");
  m.def("whiten(Tensor x, Tensor stats, bool unbiased=True, bool shift_mean=True) -> Tensor");
  m.def(
      "group_advantages(Tensor scores, int group_size, str kind='grpo', float eps=1e-6, *, "
      "bool unbiased=True, str singletons='zero', Tensor? cu_groups=None, "
      "Tensor? token_counts=None) -> Tensor");
}
#undef HONE_ADVANTAGE_INPUTS

namespace hone::kernels {
namespace {

using AdvantageTensors = std::tuple<Tensor, Tensor, Tensor, Tensor>;

/// advantages = outputs allocated + advantages_into, on every device.
AdvantageTensors allocating_advantages(
    const Tensor& logp_old, const OptionalTensor& logp_ref, const OptionalTensor& values,
    const OptionalTensor& scores, const OptionalTensor& cu_seqlens, const OptionalTensor& mask,
    const OptionalTensor& lengths, const OptionalTensor& token_rewards,
    const OptionalTensor& logp_behaviour, const OptionalTensor& bootstrap_values, double kl_coef,
    std::string_view kl_estimator, std::optional<double> kl_clamp, std::string_view placement,
    std::string_view estimator, double gamma, double lambda, double rho_clip, double c_clip,
    bool store_rewards) {
  check::model_floating("advantages", "logp_old", logp_old);
  const auto options = logp_old.options().dtype(compute_type(logp_old.scalar_type()));
  const auto like_input = [&] { return recycled_empty(logp_old.sizes(), options); };
  const Advantages out{like_input(), like_input(),
                       store_rewards ? like_input() : at::empty({0}, options),
                       at::empty({4}, options.dtype(at::kDouble))};
  advantages_into(
      out, logp_old, logp_ref, values, scores, cu_seqlens, mask,
      {kl_coef, std::string(kl_estimator), kl_clamp.value_or(kNoClamp), std::string(placement),
       gamma, lambda, std::string(estimator), rho_clip, c_clip, store_rewards},
      {token_rewards, lengths, logp_behaviour, bootstrap_values});
  return {out.advantages, out.returns, out.rewards, out.stats};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CompositeExplicitAutograd, m) {
  m.impl("advantages", &allocating_advantages);
}

Advantages advantages(const Tensor& logp_old, const OptionalTensor& logp_ref,
                      const OptionalTensor& values, const OptionalTensor& scores,
                      const OptionalTensor& cu_seqlens, const OptionalTensor& mask,
                      const AdvantageOptions& o, const AdvantageExtras& extras) {
  using Signature = AdvantageTensors(
      const Tensor&, const OptionalTensor&, const OptionalTensor&, const OptionalTensor&,
      const OptionalTensor&, const OptionalTensor&, const OptionalTensor&, const OptionalTensor&,
      const OptionalTensor&, const OptionalTensor&, double, std::string_view, std::optional<double>,
      std::string_view, std::string_view, double, double, double, double, bool);
  static const auto op = find_op<Signature>("hone::advantages");
  auto [advantages, returns, rewards, stats] = op.call(
      logp_old, logp_ref, values, scores, cu_seqlens, mask, extras.lengths, extras.token_rewards,
      extras.logp_behaviour, extras.bootstrap_values, o.kl_coef, o.kl_estimator, o.kl_clamp,
      o.placement, o.estimator, o.gamma, o.lambda, o.rho_clip, o.c_clip, o.store_rewards);
  return {advantages, returns, rewards, stats};
}

void advantages_into(const Advantages& out, const Tensor& logp_old, const OptionalTensor& logp_ref,
                     const OptionalTensor& values, const OptionalTensor& scores,
                     const OptionalTensor& cu_seqlens, const OptionalTensor& mask,
                     const AdvantageOptions& o, const AdvantageExtras& extras) {
  using Signature = void(const Tensor&, const Tensor&, const OptionalTensor&, const Tensor&,
                         const Tensor&, const OptionalTensor&, const OptionalTensor&,
                         const OptionalTensor&, const OptionalTensor&, const OptionalTensor&,
                         const OptionalTensor&, const OptionalTensor&, const OptionalTensor&,
                         const OptionalTensor&, double, std::string_view, std::optional<double>,
                         std::string_view, std::string_view, double, double, double, double);
  static const auto op = find_op<Signature>("hone::advantages_into");
  op.call(out.advantages, out.returns, o.store_rewards ? OptionalTensor(out.rewards) : std::nullopt,
          out.stats, logp_old, logp_ref, values, scores, cu_seqlens, mask, extras.lengths,
          extras.token_rewards, extras.logp_behaviour, extras.bootstrap_values, o.kl_coef,
          o.kl_estimator, o.kl_clamp, o.placement, o.estimator, o.gamma, o.lambda, o.rho_clip,
          o.c_clip);
}

Tensor moments(const Tensor& x, const OptionalTensor& mask) {
  static const auto op = find_op<Tensor(const Tensor&, const OptionalTensor&)>("hone::moments");
  return op.call(x, mask);
}

Tensor whiten(const Tensor& x, const Tensor& stats, bool unbiased, bool shift_mean) {
  static const auto op = find_op<Tensor(const Tensor&, const Tensor&, bool, bool)>("hone::whiten");
  return op.call(x, stats, unbiased, shift_mean);
}

Tensor group_advantages(const Tensor& scores, int64_t group_size, const GroupAdvantageOptions& o,
                        const OptionalTensor& cu_groups, const OptionalTensor& token_counts) {
  using Signature = Tensor(const Tensor&, int64_t, std::string_view, double, bool, std::string_view,
                           const OptionalTensor&, const OptionalTensor&);
  static const auto op = find_op<Signature>("hone::group_advantages");
  return op.call(scores, group_size, o.kind, o.eps, o.unbiased, o.singletons, cu_groups,
                 token_counts);
}

}  // namespace hone::kernels
