#include "kernels/adamw_arguments.h"

#include <cmath>
#include <string>

#include "kernels/checks.h"

namespace hone::kernels {
namespace {

constexpr const char* kOp = "adamw_step";

void check_arena(const char* argument, const at::Tensor& x, const at::Tensor& param) {
  check::same_as(kOp, argument, x, "param", param);
  HONE_CHECK(x.is_contiguous(), kOp, argument, "contiguous memory", check::describe(x));
}

}  // namespace

std::vector<AdamWSlice> adamw_slices(const at::Tensor& param, const at::Tensor& grad,
                                     const at::Tensor& m, const at::Tensor& v,
                                     at::IntArrayRef offsets, at::ArrayRef<double> lr,
                                     at::ArrayRef<double> weight_decay,
                                     const at::Tensor& grad_scale, int64_t step, double beta1,
                                     double beta2, double eps, std::string_view eps_mode) {
  check::rank(kOp, "param", param, 1);
  check::floating(kOp, "param", param);
  HONE_CHECK(param.is_contiguous(), kOp, "param", "contiguous memory", check::describe(param));
  check_arena("grad", grad, param);
  check_arena("m", m, param);
  check_arena("v", v, param);
  check::floating(kOp, "grad_scale", grad_scale);
  HONE_CHECK(grad_scale.numel() == 1, kOp, "grad_scale", "one element",
             check::describe(grad_scale));
  HONE_CHECK(step >= 1, kOp, "step", "at least 1", step);
  HONE_CHECK(beta1 >= 0 && beta1 < 1, kOp, "beta1", "a number in [0, 1)", beta1);
  HONE_CHECK(beta2 >= 0 && beta2 < 1, kOp, "beta2", "a number in [0, 1)", beta2);
  HONE_CHECK(eps >= 0, kOp, "eps", "a number >= 0", eps);
  HONE_CHECK(eps_mode == "torch" || eps_mode == "tf1", kOp, "eps_mode", "\"torch\" or \"tf1\"",
             "\"", std::string(eps_mode), "\"");
  const size_t slices = lr.size();
  HONE_CHECK(weight_decay.size() == slices, kOp, "weight_decay",
             std::to_string(slices) + " values, as lr", weight_decay.size());
  HONE_CHECK(offsets.size() == slices + 1, kOp, "offsets",
             std::to_string(slices + 1) + " values, one more than lr", offsets.size());
  HONE_CHECK(offsets.front() >= 0, kOp, "offsets[0]", "at least 0", offsets.front());
  HONE_CHECK(offsets.back() <= param.numel(), kOp, "offsets",
             "values up to " + std::to_string(param.numel()), offsets.back());
  std::vector<AdamWSlice> out;
  out.reserve(slices);
  for (size_t s = 0; s < slices; ++s) {
    HONE_CHECK(offsets[s] <= offsets[s + 1], kOp, "offsets", "values that never fall", offsets[s],
               " then ", offsets[s + 1], " at ", s + 1);
    HONE_CHECK(std::isfinite(lr[s]) && std::isfinite(weight_decay[s]), kOp, "lr and weight_decay",
               "finite numbers", lr[s], " and ", weight_decay[s], " of slice ", s);
    out.push_back({offsets[s], offsets[s + 1],
                   math::adamw_coefficients<double>(lr[s], weight_decay[s], beta1, beta2, eps, step,
                                                    eps_mode == "tf1")});
  }
  return out;
}

}  // namespace hone::kernels
