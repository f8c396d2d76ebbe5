#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/library.h>

#include "kernels/autograd/scalar_loss.h"
#include "kernels/find_op.h"

namespace hone::kernels {
namespace {

using at::Tensor;

std::tuple<Tensor, Tensor, Tensor> with_grad(const Tensor& values, const Tensor& values_old,
                                             const Tensor& returns, const Tensor& token_weights,
                                             double clip) {
  static const auto op = find_op<decltype(with_grad)>("hone::value_loss_with_grad");
  return op.call(values, values_old, returns, token_weights, clip);
}

std::tuple<Tensor, Tensor> value_loss_plain(const Tensor& values, const Tensor& values_old,
                                            const Tensor& returns, const Tensor& token_weights,
                                            double clip) {
  const auto [loss, metrics, grad] = with_grad(values, values_old, returns, token_weights, clip);
  return {loss, metrics};
}

std::tuple<Tensor, Tensor> value_loss_autograd(const Tensor& values, const Tensor& values_old,
                                               const Tensor& returns, const Tensor& token_weights,
                                               double clip) {
  const auto [loss, metrics, grad] = [&] {
    at::AutoDispatchBelowADInplaceOrView below;
    return with_grad(values, values_old, returns, token_weights, clip);
  }();
  return {ScalarLoss::apply(values, LossAndGrad{loss, grad}, "value_loss"), metrics};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CompositeExplicitAutograd, m) { m.impl("value_loss", &value_loss_plain); }
TORCH_LIBRARY_IMPL(hone, Autograd, m) { m.impl("value_loss", &value_loss_autograd); }

}  // namespace hone::kernels
