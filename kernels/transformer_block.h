#pragma once

// The arguments of the transformer_block ops in one place.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

namespace hone::kernels {

struct BlockArguments {
  at::Tensor x;  // [N,H]
  /// attention_norm, qkv, attention_output, mlp_norm, gate_up, down and, if any, the bias of qkv.
  std::vector<at::Tensor> weights;
  at::Tensor cu_seqlens, cos, sin;
  int64_t heads, kv_heads, head_dim;
  double scale;
  int64_t window;
  double eps;
  bool bfloat16;
  at::Tensor rows;  // [M] int64, the rows of the result; undefined: all

  BlockArguments(const at::Tensor& x, at::TensorList weights, const at::Tensor& cu_seqlens,
                 const at::Tensor& cos, const at::Tensor& sin, int64_t heads, int64_t kv_heads,
                 int64_t head_dim, double scale, int64_t window, double eps, bool bfloat16,
                 const std::optional<at::Tensor>& rows);

  int64_t result_rows() const { return rows.defined() ? rows.size(0) : x.size(0); }

  const at::Tensor& attention_norm() const { return weights[0]; }
  const at::Tensor& qkv() const { return weights[1]; }
  const at::Tensor& attention_output() const { return weights[2]; }
  const at::Tensor& mlp_norm() const { return weights[3]; }
  const at::Tensor& gate_up() const { return weights[4]; }
  const at::Tensor& down() const { return weights[5]; }
  bool has_bias() const { return weights.size() == 7; }
  const at::Tensor& qkv_bias() const { return weights[6]; }

  /// The op's result and lse.
  std::tuple<at::Tensor, at::Tensor> attention(const at::Tensor& qkv) const;
  /// d qkv; `attended` may have been rounded.
  at::Tensor attention_backward(const at::Tensor& d_attended, const at::Tensor& qkv,
                                const at::Tensor& attended, const at::Tensor& lse) const;
};

}  // namespace hone::kernels
