// Shapes and dtypes of the losses' and the head's results, for fake tensors (torch.compile,
// torch.export). Sizes may be symbols, so nothing here reads a number; the checks are the kernels'.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "kernels/bfloat16.h"
#include "kernels/loss_signatures.h"
#include "kernels/math/direct.h"
#include "kernels/math/policy.h"

namespace hone::kernels {
namespace {

using at::Tensor;

Tensor one_number(const Tensor& like) { return at::empty({}, like.options()); }
Tensor doubles(const Tensor& like, int64_t n) {
  return at::empty({n}, like.options().dtype(at::kDouble));
}
/// Kernels return contiguous results whatever the layout of their inputs.
Tensor contiguous_like(const Tensor& x) { return at::empty_symint(x.sym_sizes(), x.options()); }

/// A loss of `kMetrics` metrics (0 = none) and gradients like its first inputs.
template <int64_t kMetrics, typename Signature>
struct LossMeta;

template <int64_t kMetrics, typename... Rest>
struct LossMeta<kMetrics, std::tuple<Tensor, Tensor, Tensor>(const Tensor&, Rest...)> {
  static std::tuple<Tensor, Tensor, Tensor> call(const Tensor& x, Rest...) {
    return {one_number(x), doubles(x, kMetrics), contiguous_like(x)};
  }
};
template <typename... Rest>
struct LossMeta<0, std::tuple<Tensor, Tensor>(const Tensor&, Rest...)> {
  static std::tuple<Tensor, Tensor> call(const Tensor& x, Rest...) {
    return {one_number(x), contiguous_like(x)};
  }
};
template <int64_t kMetrics, typename... Rest>
struct LossMeta<kMetrics,
                std::tuple<Tensor, Tensor, Tensor, Tensor>(const Tensor&, const Tensor&, Rest...)> {
  static std::tuple<Tensor, Tensor, Tensor, Tensor> call(const Tensor& x, const Tensor& y,
                                                         Rest...) {
    return {one_number(x), doubles(x, kMetrics), contiguous_like(x), contiguous_like(y)};
  }
};

Tensor token_weights(const Tensor& mask, const Tensor&, std::string_view, std::optional<double>,
                     std::optional<double>, int64_t, std::optional<at::ScalarType> dtype) {
  return at::empty_symint(mask.sym_sizes(), mask.options().dtype(dtype.value_or(at::kFloat)));
}

/// The tensors that the head ops return.
struct Head {
  const Tensor &hidden, &weight;

  at::TensorOptions computed() const {
    return hidden.options().dtype(compute_type(hidden.scalar_type()));
  }
  Tensor number() const { return at::empty({}, computed()); }
  Tensor metrics() const {
    return at::empty({math::PolicySums::kMetrics}, computed().dtype(at::kDouble));
  }
  Tensor token_values() const { return at::empty_symint({hidden.sym_size(0)}, computed()); }
  Tensor top(int64_t k, at::TensorOptions options) const {
    return at::empty_symint({hidden.sym_size(0), k}, options);
  }
  static Tensor gradient(bool needed, const Tensor& like) {
    return needed ? contiguous_like(like) : at::empty({0}, like.options());
  }
  Tensor d_hidden(std::array<bool, 3> needs) const { return gradient(needs[0], hidden); }
  Tensor d_weight(std::array<bool, 3> needs) const { return gradient(needs[1], weight); }
  Tensor d_bias(std::array<bool, 3> needs) const {
    return needs[2] ? at::empty_symint({weight.sym_size(0)}, weight.options())
                    : at::empty({0}, weight.options());
  }
};

std::tuple<Tensor, Tensor> token_logprobs(const Tensor& hidden, const Tensor& weight, const Tensor&,
                                          double, const std::optional<Tensor>&) {
  const Head head{hidden, weight};
  return {head.token_values(), head.token_values()};
}

std::tuple<Tensor, Tensor, Tensor> token_logprobs_backward(
    const std::optional<Tensor>&, const std::optional<Tensor>&, const Tensor& hidden,
    const Tensor& weight, const Tensor&, const std::optional<Tensor>&, const Tensor&, const Tensor&,
    double, std::array<bool, 3> needs) {
  const Head head{hidden, weight};
  return {head.d_hidden(needs), head.d_weight(needs), head.d_bias(needs)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> token_top_logprobs(const Tensor& hidden,
                                                              const Tensor& weight,
                                                              const Tensor& targets, int64_t k,
                                                              double,
                                                              const std::optional<Tensor>&) {
  const Head head{hidden, weight};
  return {head.token_values(), head.token_values(), head.top(k, head.computed()),
          head.top(k, targets.options())};
}

std::tuple<Tensor, Tensor> head_nll(const Tensor& hidden, const Tensor& weight, const Tensor&,
                                    const Tensor&, double, const std::optional<Tensor>&) {
  const Head head{hidden, weight};
  return {head.number(), head.token_values()};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> head_nll_grad(
    const Tensor& hidden, const Tensor& weight, const Tensor&, const Tensor&, double,
    const std::optional<Tensor>&, std::array<bool, 3> needs) {
  const Head head{hidden, weight};
  return {head.number(), head.token_values(), head.d_hidden(needs), head.d_weight(needs),
          head.d_bias(needs)};
}

template <typename Signature>
struct HeadPolicyMeta;
template <typename... Rest>
struct HeadPolicyMeta<std::tuple<Tensor, Tensor, Tensor, Tensor>(const Tensor&, const Tensor&,
                                                                 Rest...)> {
  static std::tuple<Tensor, Tensor, Tensor, Tensor> call(const Tensor& hidden, const Tensor& weight,
                                                         Rest...) {
    const Head head{hidden, weight};
    return {head.number(), head.metrics(), head.token_values(), head.token_values()};
  }
};
template <typename... Rest>
struct HeadPolicyMeta<std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>(
    const Tensor&, const Tensor&, Rest...)> {
  static std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> call(
      const Tensor& hidden, const Tensor& weight, Rest... rest) {
    const Head head{hidden, weight};
    const std::array<bool, 3> needs = std::get<sizeof...(Rest) - 1>(std::forward_as_tuple(rest...));
    return {head.number(),        head.metrics(),       head.token_values(), head.token_values(),
            head.d_hidden(needs), head.d_weight(needs), head.d_bias(needs)};
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(hone, Meta, m) {
  using math::DirectSums;
  using math::KtoSums;
  using math::PolicySums;
  m.impl("token_weights", &token_weights);
  m.impl("policy_loss_with_grad",
         &LossMeta<PolicySums::kMetrics, signatures::PolicyLossWithGrad>::call);
  m.impl("value_loss_with_grad", &LossMeta<2, signatures::ValueLossWithGrad>::call);
  m.impl("preference_loss_with_grad", &LossMeta<0, signatures::PreferenceLossWithGrad>::call);
  m.impl("ranking_loss_with_grad", &LossMeta<0, signatures::RankingLossWithGrad>::call);
  m.impl("direct_loss_with_grad",
         &LossMeta<DirectSums::kMetrics, signatures::DirectLossWithGrad>::call);
  m.impl("kto_loss_with_grad", &LossMeta<KtoSums::kMetrics, signatures::KtoLossWithGrad>::call);
  m.impl("token_logprobs", &token_logprobs);
  m.impl("_token_logprobs_backward", &token_logprobs_backward);
  m.impl("token_top_logprobs", &token_top_logprobs);
  m.impl("head_nll", &head_nll);
  m.impl("_head_nll_grad", &head_nll_grad);
  m.impl("head_policy_loss", &HeadPolicyMeta<signatures::HeadPolicyLoss>::call);
  m.impl("_head_policy_loss_grad", &HeadPolicyMeta<signatures::HeadPolicyLossGrad>::call);
}

}  // namespace hone::kernels
