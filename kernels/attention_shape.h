#pragma once

// What attention and decode_attention check and derive from their arguments.

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace hone::kernels {

struct AttentionShape {
  int64_t heads, kv_heads, head_dim;
  int64_t group;   // query heads that share one key/value head
  int64_t width;   // of a qkv row: (heads + 2*kv_heads) * head_dim
  int64_t window;  // a token sees itself and at most window - 1 before it; 0 = all before it
  double scale;

  int64_t first_key(int64_t query) const {
    return window > 0 && query >= window ? query - window + 1 : 0;
  }
};

/// Checks sizes, head counts, the qkv row width and the cos/sin tables [P,head_dim/2].
AttentionShape attention_shape(const char* op, const at::Tensor& qkv, const at::Tensor& cos,
                               const at::Tensor& sin, int64_t heads, int64_t kv_heads,
                               int64_t head_dim, double scale, int64_t window);

/// What heads and sizes alone say.
AttentionShape attention_shape(int64_t heads, int64_t kv_heads, int64_t head_dim, double scale,
                               int64_t window);

}  // namespace hone::kernels
