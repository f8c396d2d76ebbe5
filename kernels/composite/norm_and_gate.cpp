#include <ATen/ATen.h>

#include "kernels/composite/transformer.h"

namespace hone::kernels::composite {

using at::Tensor;

namespace {

Tensor inverse_rms(const Tensor& x, double eps) {
  return at::rsqrt(x.square().mean(-1, /*keepdim=*/true) + eps);
}

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  return x * inverse_rms(x, eps) * weight;
}

std::tuple<Tensor, Tensor> rms_norm_backward(const Tensor& grad, const Tensor& x,
                                             const Tensor& weight, double eps) {
  const Tensor r = inverse_rms(x, eps), normal = x * r, weighted = grad * weight;
  const Tensor d_x = r * (weighted - normal * (weighted * normal).mean(-1, /*keepdim=*/true));
  return {d_x, (grad * normal).sum(0)};
}

Tensor swiglu(const Tensor& x) {
  const auto halves = x.chunk(2, -1);
  return at::silu(halves[0]) * halves[1];
}

Tensor swiglu_backward(const Tensor& grad, const Tensor& x) {
  const auto halves = x.chunk(2, -1);
  const Tensor s = at::sigmoid(halves[0]);
  return at::cat({grad * halves[1] * s * (1 + halves[0] * (1 - s)), grad * halves[0] * s}, -1);
}

}  // namespace hone::kernels::composite
