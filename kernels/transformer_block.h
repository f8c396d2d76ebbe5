#pragma once

// The arguments of the transformer_block ops in one place.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/attention_shape.h"

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

  /// Of the block's attention, whose own arguments this checks.
  AttentionShape attention() const;
};

}  // namespace hone::kernels
