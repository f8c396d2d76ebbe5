#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/library.h>

#include "kernels/autograd/scalar_loss.h"
#include "kernels/find_op.h"
#include "kernels/loss_inputs.h"

namespace hone::kernels {
namespace {

using at::Tensor;

std::tuple<Tensor, Tensor> with_grad(const Tensor& delta, const Tensor& target,
                                     const Tensor& weights, const OptionalTensor& margin,
                                     std::string_view model, double tie, double lapse) {
  static const auto op = find_op<decltype(with_grad)>("hone::preference_loss_with_grad");
  return op.call(delta, target, weights, margin, model, tie, lapse);
}

Tensor preference_loss_plain(const Tensor& delta, const Tensor& target, const Tensor& weights,
                             const OptionalTensor& margin, std::string_view model, double tie,
                             double lapse) {
  return std::get<0>(with_grad(delta, target, weights, margin, model, tie, lapse));
}

Tensor preference_loss_autograd(const Tensor& delta, const Tensor& target, const Tensor& weights,
                                const OptionalTensor& margin, std::string_view model, double tie,
                                double lapse) {
  const auto [loss, grad] = [&] {
    at::AutoDispatchBelowADInplaceOrView below;
    return with_grad(delta, target, weights, margin, model, tie, lapse);
  }();
  return ScalarLoss::apply(delta, LossAndGrad{loss, grad}, "preference_loss");
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CompositeExplicitAutograd, m) {
  m.impl("preference_loss", &preference_loss_plain);
}
TORCH_LIBRARY_IMPL(hone, Autograd, m) { m.impl("preference_loss", &preference_loss_autograd); }

}  // namespace hone::kernels
