#include "kernels/transformer_block.h"

#include <ATen/ops/empty.h>

#include <cmath>
#include <string>

#include "kernels/checks.h"
#include "kernels/model_inputs.h"

namespace hone::kernels {

BlockArguments::BlockArguments(const at::Tensor& x, at::TensorList weights,
                               const at::Tensor& cu_seqlens, const at::Tensor& cos,
                               const at::Tensor& sin, int64_t heads, int64_t kv_heads,
                               int64_t head_dim, double scale, int64_t window, double eps,
                               bool bfloat16, const std::optional<at::Tensor>& rows)
    : x(x),
      weights(weights.vec()),
      cu_seqlens(cu_seqlens),
      cos(cos),
      sin(sin),
      heads(heads),
      kv_heads(kv_heads),
      head_dim(head_dim),
      scale(scale),
      window(window),
      eps(eps),
      bfloat16(bfloat16) {
  constexpr const char* kOp = "transformer_block";
  check::floating(kOp, "x", x);
  check::rank(kOp, "x", x, 2);
  HONE_CHECK(weights.size() == 6 || weights.size() == 7, kOp, "weights",
             "attention_norm, qkv, attention_output, mlp_norm, gate_up, down and perhaps qkv_bias",
             weights.size(), " tensors");
  HONE_CHECK(std::isfinite(eps) && eps >= 0, kOp, "eps", "a finite number >= 0", eps);
  HONE_CHECK(!bfloat16 || x.scalar_type() == at::kFloat, kOp, "bfloat16", "float32 x",
             check::describe(x));
  for (const at::Tensor& weight : weights) {
    check::dtype(kOp, "weights", weight, x.scalar_type());
    check::same_device(kOp, "weights", weight, "x", x);
  }
  const int64_t width = x.size(1), mixed = heads * head_dim, all = mixed + 2 * kv_heads * head_dim;
  check::rank(kOp, "gate_up", gate_up(), 2);
  const int64_t gate = gate_up().size(0);
  HONE_CHECK(gate % 2 == 0, kOp, "gate_up", "[2F,H]", check::describe(gate_up()));
  check::sizes(kOp, "attention_norm", attention_norm(), {width}, "[H]");
  check::sizes(kOp, "qkv", qkv(), {all, width}, "[(heads+2*kv_heads)*head_dim,H]");
  check::sizes(kOp, "attention_output", attention_output(), {width, mixed}, "[H,heads*head_dim]");
  check::sizes(kOp, "mlp_norm", mlp_norm(), {width}, "[H]");
  check::sizes(kOp, "gate_up", gate_up(), {gate, width}, "[2F,H]");
  check::sizes(kOp, "down", down(), {width, gate / 2}, "[H,F]");
  if (has_bias()) check::sizes(kOp, "qkv_bias", qkv_bias(), {all}, "[(heads+2*kv_heads)*head_dim]");
  if (!rows.has_value() || !rows->defined()) return;
  check::rank(kOp, "rows", *rows, 1);
  check::dtype(kOp, "rows", *rows, at::kLong);
  check::same_device(kOp, "rows", *rows, "x", x);
  this->rows = rows->contiguous();
  const int64_t* row = this->rows.const_data_ptr<int64_t>();
  for (int64_t i = 0, least = 0; i < rows->size(0); least = row[i++] + 1) {
    HONE_CHECK(row[i] >= least && row[i] < x.size(0), kOp, "rows",
               "ascending rows of x, of which there are " + std::to_string(x.size(0)), row[i],
               " at index ", i);
  }
}

AttentionShape BlockArguments::attention() const {
  const at::Tensor rows_of_qkv =  // sizes and type alone
      at::empty({1, 1}, x.options()).expand({x.size(0), qkv().size(0)});
  return check_attention(rows_of_qkv, cu_seqlens, cos, sin, heads, kv_heads, head_dim, scale,
                         window);
}

}  // namespace hone::kernels
