#pragma once

#include <ATen/ATen.h>

#include <functional>

#include "tests/support/expect_close.h"

namespace hone::test {

/// The autograd gradient of `loss` at x (float64, 1-D) against central differences.
inline void expect_gradient(const std::function<at::Tensor(const at::Tensor&)>& loss,
                            const at::Tensor& x, const std::string& what, double tolerance = 1e-6) {
  const at::Tensor input = x.detach().clone().requires_grad_(true);
  loss(input).backward();
  constexpr double kStep = 1e-5;  // truncation ~ 1e-10, rounding ~ 1e-11
  at::Tensor want = at::empty_like(x);
  for (int64_t i = 0; i < x.numel(); ++i) {
    at::Tensor up = x.detach().clone(), down = x.detach().clone();
    up[i] += kStep;
    down[i] -= kStep;
    want[i] = (loss(up) - loss(down)) / (2 * kStep);
  }
  expect_close(input.grad(), want, tolerance, tolerance, what);
}

}  // namespace hone::test
