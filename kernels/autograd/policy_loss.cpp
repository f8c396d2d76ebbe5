#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/library.h>

#include "kernels/autograd/scalar_loss.h"
#include "kernels/find_op.h"
#include "kernels/loss_inputs.h"

namespace hone::kernels {
namespace {

using at::Tensor;

std::tuple<Tensor, Tensor, Tensor> with_grad(const Tensor& logp_new, const Tensor& logp_old,
                                             const Tensor& advantages,
                                             const OptionalTensor& logp_ref,
                                             const Tensor& token_weights, double clip_low,
                                             double clip_high, double dual_clip, double kl_coef,
                                             std::string_view kl_estimator) {
  static const auto op = find_op<decltype(with_grad)>("hone::policy_loss_with_grad");
  return op.call(logp_new, logp_old, advantages, logp_ref, token_weights, clip_low, clip_high,
                 dual_clip, kl_coef, kl_estimator);
}

std::tuple<Tensor, Tensor> policy_loss_plain(const Tensor& logp_new, const Tensor& logp_old,
                                             const Tensor& advantages,
                                             const OptionalTensor& logp_ref,
                                             const Tensor& token_weights, double clip_low,
                                             double clip_high, double dual_clip, double kl_coef,
                                             std::string_view kl_estimator) {
  const auto [loss, metrics, grad] =
      with_grad(logp_new, logp_old, advantages, logp_ref, token_weights, clip_low, clip_high,
                dual_clip, kl_coef, kl_estimator);
  return {loss, metrics};
}

std::tuple<Tensor, Tensor> policy_loss_autograd(const Tensor& logp_new, const Tensor& logp_old,
                                                const Tensor& advantages,
                                                const OptionalTensor& logp_ref,
                                                const Tensor& token_weights, double clip_low,
                                                double clip_high, double dual_clip, double kl_coef,
                                                std::string_view kl_estimator) {
  const auto [loss, metrics, grad] = [&] {
    at::AutoDispatchBelowADInplaceOrView below;
    return with_grad(logp_new, logp_old, advantages, logp_ref, token_weights, clip_low, clip_high,
                     dual_clip, kl_coef, kl_estimator);
  }();
  return {ScalarLoss::apply(logp_new, LossAndGrad{loss, grad}, "policy_loss"), metrics};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CompositeExplicitAutograd, m) {
  m.impl("policy_loss", &policy_loss_plain);
}
TORCH_LIBRARY_IMPL(hone, Autograd, m) { m.impl("policy_loss", &policy_loss_autograd); }

}  // namespace hone::kernels
