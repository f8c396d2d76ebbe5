// The schemas of the RL ops in one table, and their typed C++ face (ops.h) through the dispatcher.
// The losses are in library_loss.cpp, the model ops in library_model.cpp.

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

}  // namespace hone::kernels
