// Shapes and dtypes of the advantage and optimizer ops' results, for fake tensors (torch.compile,
// torch.export). Sizes may be symbols, so nothing here reads a number; the checks are the kernels'.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <optional>
#include <string_view>
#include <tuple>

#include "kernels/bfloat16.h"

namespace hone::kernels {
namespace {

using at::Tensor;
using Optional = const std::optional<Tensor>&;

Tensor contiguous_like(const Tensor& x) { return at::empty_symint(x.sym_sizes(), x.options()); }
Tensor doubles(const Tensor& like, at::IntArrayRef sizes) {
  return at::empty(sizes, like.options().dtype(at::kDouble));
}

std::tuple<Tensor, Tensor, Tensor, Tensor> advantages_meta(
    const Tensor& logp_old, Optional, Optional, Optional, Optional, Optional, Optional, Optional,
    Optional, Optional, double, std::string_view, std::optional<double>, std::string_view,
    std::string_view, double, double, double, double, bool store_rewards) {
  const auto options = logp_old.options().dtype(compute_type(logp_old.scalar_type()));
  const auto like_input = [&] { return at::empty_symint(logp_old.sym_sizes(), options); };
  return {like_input(), like_input(), store_rewards ? like_input() : at::empty({0}, options),
          doubles(logp_old, {4})};
}
void advantages_into_meta(const Tensor&, const Tensor&, Optional, const Tensor&, const Tensor&,
                          Optional, Optional, Optional, Optional, Optional, Optional, Optional,
                          Optional, Optional, double, std::string_view, std::optional<double>,
                          std::string_view, std::string_view, double, double, double, double) {}

Tensor moments_meta(const Tensor& x, Optional) { return doubles(x, {4}); }
Tensor whiten_meta(const Tensor& x, const Tensor&, bool, bool) { return contiguous_like(x); }
Tensor group_advantages_meta(const Tensor& scores, int64_t, std::string_view, double, bool,
                             std::string_view, Optional, Optional) {
  return contiguous_like(scores);
}

void adamw_step_meta(const Tensor&, const Tensor&, const Tensor&, const Tensor&, at::IntArrayRef,
                     at::ArrayRef<double>, at::ArrayRef<double>, const Tensor&, int64_t, double,
                     double, double, std::string_view, Optional) {}
Tensor grad_norm_meta(const Tensor& grad) { return doubles(grad, {}); }
void scale_meta(const Tensor&, const Tensor&) {}

std::tuple<Tensor, Tensor, Tensor, Tensor> sample_meta(const Tensor& logits, const Tensor& keys,
                                                       int64_t, double, int64_t, double, double) {
  const auto options = logits.options().dtype(compute_type(logits.scalar_type()));
  const auto each_row = [&](const at::TensorOptions& of) {
    return at::empty_symint({logits.sym_size(0)}, of);
  };
  return {each_row(keys.options()), each_row(options), each_row(options), each_row(options)};
}
Tensor dropout_meta(const Tensor& x, double, int64_t) { return contiguous_like(x); }

}  // namespace

TORCH_LIBRARY_IMPL(hone, Meta, m) {
  m.impl("advantages", &advantages_meta);
  m.impl("advantages_into", &advantages_into_meta);
  m.impl("moments", &moments_meta);
  m.impl("whiten", &whiten_meta);
  m.impl("group_advantages", &group_advantages_meta);
  m.impl("adamw_step", &adamw_step_meta);
  m.impl("grad_norm", &grad_norm_meta);
  m.impl("scale", &scale_meta);
  m.impl("sample", &sample_meta);
  m.impl("dropout", &dropout_meta);
}

}  // namespace hone::kernels
