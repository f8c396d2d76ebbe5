#include "kernels/attention_shape.h"

#include <cmath>
#include <string>

#include "kernels/bfloat16.h"
#include "kernels/checks.h"

namespace hone::kernels {

AttentionShape attention_shape(const char* op, const at::Tensor& qkv, const at::Tensor& cos,
                               const at::Tensor& sin, int64_t heads, int64_t kv_heads,
                               int64_t head_dim, double scale, int64_t window) {
  // The upper bounds keep the products below 2^63 whatever a caller passes.
  constexpr int64_t kMost = int64_t{1} << 20;
  HONE_CHECK(heads > 0 && heads <= kMost, op, "heads", "at least 1", heads);
  HONE_CHECK(kv_heads > 0 && heads % kv_heads == 0, op, "kv_heads",
             "a divisor of heads = " + std::to_string(heads), kv_heads);
  HONE_CHECK(head_dim > 0 && head_dim % 2 == 0 && head_dim <= kMost, op, "head_dim",
             "an even number above 0", head_dim);
  HONE_CHECK(std::isfinite(scale) && scale >= 0, op, "scale", "a finite number, or 0", scale);
  HONE_CHECK(window >= 0, op, "window", "at least 1, or 0 for none", window);
  check::rank(op, "qkv", qkv, 2);
  check::model_floating(op, "qkv", qkv);
  const int64_t width = (heads + 2 * kv_heads) * head_dim;
  HONE_CHECK(qkv.size(1) == width, op, "qkv",
             "[N,(heads+2*kv_heads)*head_dim] = [N," + std::to_string(width) + "]",
             check::describe(qkv));
  check::rank(op, "cos", cos, 2);
  // Angles of a long text need more than bfloat16's 8 bits: float32 tables go with it as well.
  if (cos.scalar_type() != compute_type(qkv.scalar_type())) {
    check::dtype(op, "cos", cos, qkv.scalar_type());
  }
  check::same_device(op, "cos", cos, "qkv", qkv);
  HONE_CHECK(cos.size(1) == head_dim / 2, op, "cos",
             "[P,head_dim/2] = [P," + std::to_string(head_dim / 2) + "]", check::describe(cos));
  check::same_as(op, "sin", sin, "cos", cos);
  return attention_shape(heads, kv_heads, head_dim, scale, window);
}

AttentionShape attention_shape(int64_t heads, int64_t kv_heads, int64_t head_dim, double scale,
                               int64_t window) {
  return {heads,
          kv_heads,
          head_dim,
          heads / kv_heads,
          (heads + 2 * kv_heads) * head_dim,
          window,
          scale > 0 ? scale : 1.0 / std::sqrt(static_cast<double>(head_dim))};
}

}  // namespace hone::kernels
