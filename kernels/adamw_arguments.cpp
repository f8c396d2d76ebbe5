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

/// A bfloat16 arena beside the float32 one.
void check_low_arena(const char* argument, const at::Tensor& x, const at::Tensor& param) {
  check::sizes(kOp, argument, x, param.sizes(), "the sizes of param");
  check::dtype(kOp, argument, x, at::kBFloat16);
  check::same_device(kOp, argument, x, "param", param);
  HONE_CHECK(x.is_contiguous(), kOp, argument, "contiguous memory", check::describe(x));
}

}  // namespace

void check_scale(const at::Tensor& x, const at::Tensor& factor) {
  check::model_floating("scale", "x", x);
  HONE_CHECK(x.is_contiguous(), "scale", "x", "contiguous memory", check::describe(x));
  check::dtype("scale", "factor", factor, at::kDouble);
  HONE_CHECK(factor.numel() == 1, "scale", "factor", "one element", check::describe(factor));
  check::same_device("scale", "factor", factor, "x", x);
}

std::vector<AdamWSlice> adamw_slices(const at::Tensor& param, const at::Tensor& grad,
                                     const at::Tensor& m, const at::Tensor& v,
                                     at::IntArrayRef offsets, at::ArrayRef<double> lr,
                                     at::ArrayRef<double> weight_decay,
                                     const at::Tensor& grad_scale, int64_t step, double beta1,
                                     double beta2, double eps, std::string_view eps_mode,
                                     const std::optional<at::Tensor>& rounded) {
  check::rank(kOp, "param", param, 1);
  check::floating(kOp, "param", param);
  HONE_CHECK(param.is_contiguous(), kOp, "param", "contiguous memory", check::describe(param));
  const bool low = grad.defined() && grad.scalar_type() == at::kBFloat16;
  if (low && param.scalar_type() == at::kFloat) {
    check_low_arena("grad", grad, param);
  } else {
    check_arena("grad", grad, param);
  }
  check_arena("m", m, param);
  check_arena("v", v, param);
  if (rounded.has_value()) {
    check::dtype(kOp, "param beside rounded", param, at::kFloat);
    check_low_arena("rounded", *rounded, param);
  }
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
