#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace hone::test {

/// Every element of `got` within atol + rtol*|want| of `want`, same shape.
inline void expect_close(const at::Tensor& got, const at::Tensor& want, double atol,
                         double rtol = 0.0, const std::string& what = "") {
  ASSERT_EQ(got.sizes(), want.sizes()) << what;
  if (want.numel() == 0) return;
  const auto g = got.detach().to(at::kCPU, at::kDouble),
             w = want.detach().to(at::kCPU, at::kDouble);
  const auto error = (g - w).abs();
  const auto excess = (error - (w.abs() * rtol + atol)).max().item<double>();
  EXPECT_LE(excess, 0.0) << what << ": largest difference " << error.max().item<double>();
  EXPECT_FALSE(g.isnan().any().item<bool>() && !w.isnan().any().item<bool>()) << what << ": NaN";
}

}  // namespace hone::test
