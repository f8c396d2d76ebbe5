#include "kernels/model_inputs.h"

#include <cmath>
#include <limits>
#include <string>

#include "kernels/checks.h"

namespace hone::kernels {
namespace {

constexpr int64_t kMostUint32 = std::numeric_limits<uint32_t>::max();

void check_decode_rows(const at::Tensor& block_table, const at::Tensor& row_positions,
                       int64_t blocks, int64_t block_size, int64_t table_positions,
                       const AttentionShape& shape) {
  constexpr const char* kOp = "decode_attention";
  const at::Tensor table = block_table.contiguous(), positions = row_positions.contiguous();
  const int32_t* block = table.const_data_ptr<int32_t>();
  const int64_t* position = positions.const_data_ptr<int64_t>();
  const int64_t columns = table.size(1);
  for (int64_t r = 0; r < positions.size(0); ++r, block += columns) {
    HONE_CHECK(position[r] >= 0 && position[r] < table_positions, kOp, "positions",
               "values in [0, P = " + std::to_string(table_positions) + ")", position[r],
               " in row ", r);
    HONE_CHECK(position[r] / block_size < columns, kOp, "block_table",
               "room for position " + std::to_string(position[r]), columns, " blocks of ",
               block_size, " in row ", r);
    for (int64_t b = shape.first_key(position[r]) / block_size; b <= position[r] / block_size;
         ++b) {
      HONE_CHECK(block[b] >= 0 && block[b] < blocks, kOp, "block_table",
                 "blocks in [0, " + std::to_string(blocks) + ")", block[b], " in row ", r,
                 ", column ", b);
    }
  }
}

}  // namespace

void check_rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  check::rank("rms_norm", "x", x, 2);
  check::model_floating("rms_norm", "x", x);
  check::sizes("rms_norm", "weight", weight, {x.size(1)}, "[H]");
  check::dtype("rms_norm", "weight", weight, x.scalar_type());
  check::same_device("rms_norm", "weight", weight, "x", x);
  HONE_CHECK(std::isfinite(eps) && eps >= 0, "rms_norm", "eps", "a finite number >= 0", eps);
}

void check_swiglu(const at::Tensor& x) {
  check::rank("swiglu", "x", x, 2);
  check::model_floating("swiglu", "x", x);
  HONE_CHECK(x.size(1) % 2 == 0, "swiglu", "x", "[N,2F]", check::describe(x));
}

void check_dropout(const at::Tensor& x, double p) {
  check::model_floating("dropout", "x", x);
  HONE_CHECK(p >= 0 && p < 1, "dropout", "p", "a number in [0, 1)", p);
}

void check_sample(const at::Tensor& logits, const at::Tensor& keys, double temperature,
                  int64_t top_k, double top_p, double min_p) {
  constexpr const char* kOp = "sample";
  check::rank(kOp, "logits", logits, 2);
  check::model_floating(kOp, "logits", logits);
  const int64_t rows = logits.size(0);
  HONE_CHECK(logits.size(1) > 0 || rows == 0, kOp, "logits", "[R,V] with V >= 1",
             check::describe(logits));
  check::dtype(kOp, "keys", keys, at::kLong);
  check::sizes(kOp, "keys", keys, {rows, 3}, "[R,3]");
  check::same_device(kOp, "keys", keys, "logits", logits);
  HONE_CHECK(std::isfinite(temperature) && temperature >= 0, kOp, "temperature",
             "a finite number >= 0", temperature);
  HONE_CHECK(top_k >= 0, kOp, "top_k", "at least 1, or 0 for off", top_k);
  HONE_CHECK(top_p > 0 && top_p <= 1, kOp, "top_p", "a number in (0, 1]", top_p);
  HONE_CHECK(min_p >= 0 && min_p <= 1, kOp, "min_p", "a number in [0, 1]", min_p);
  if (!keys.is_cpu()) return;
  const at::Tensor held = keys.contiguous();
  const int64_t* key = held.const_data_ptr<int64_t>();
  for (int64_t r = 0; r < rows; ++r, key += 3) {
    HONE_CHECK(
        key[0] >= 0 && key[1] >= 0 && key[1] <= kMostUint32 && key[2] >= 0 && key[2] <= kMostUint32,
        kOp, "keys", "prompt >= 0, sample and position in [0, 2^32)", key[0], ", ", key[1], ", ",
        key[2], " in row ", r);
  }
}

AttentionShape check_attention(const at::Tensor& qkv, const at::Tensor& cu_seqlens,
                               const at::Tensor& cos, const at::Tensor& sin, int64_t heads,
                               int64_t kv_heads, int64_t head_dim, double scale, int64_t window) {
  const AttentionShape shape =
      attention_shape("attention", qkv, cos, sin, heads, kv_heads, head_dim, scale, window);
  check::cu_seqlens("attention", cu_seqlens, qkv.size(0));
  if (!cu_seqlens.is_cpu()) return shape;
  const at::Tensor held = cu_seqlens.contiguous();
  const int64_t* cu = held.const_data_ptr<int64_t>();
  for (int64_t b = 0; b + 1 < held.size(0); ++b) {
    HONE_CHECK(cu[b + 1] - cu[b] <= cos.size(0), "attention", "cu_seqlens",
               "sequences of at most P = " + std::to_string(cos.size(0)) + " tokens (rows of cos)",
               cu[b + 1] - cu[b], " tokens in sequence ", b);
  }
  return shape;
}

AttentionShape check_decode_attention(const at::Tensor& qkv, const at::Tensor& k_cache,
                                      const at::Tensor& v_cache, const at::Tensor& block_table,
                                      const at::Tensor& positions, const at::Tensor& cos,
                                      const at::Tensor& sin, int64_t heads, int64_t kv_heads,
                                      int64_t head_dim, double scale, int64_t window) {
  constexpr const char* kOp = "decode_attention";
  const AttentionShape shape =
      attention_shape(kOp, qkv, cos, sin, heads, kv_heads, head_dim, scale, window);
  const int64_t rows = qkv.size(0);
  check::rank(kOp, "k_cache", k_cache, 4);
  check::dtype(kOp, "k_cache", k_cache, qkv.scalar_type());
  check::same_device(kOp, "k_cache", k_cache, "qkv", qkv);
  HONE_CHECK(k_cache.size(1) > 0 && k_cache.size(2) == kv_heads && k_cache.size(3) == head_dim &&
                 k_cache.is_contiguous(),
             kOp, "k_cache", "contiguous [blocks, block_size, kv_heads, head_dim]",
             check::describe(k_cache));
  check::same_as(kOp, "v_cache", v_cache, "k_cache", k_cache);
  HONE_CHECK(v_cache.is_contiguous(), kOp, "v_cache", "contiguous memory", "strided memory");
  check::dtype(kOp, "block_table", block_table, at::kInt);
  check::rank(kOp, "block_table", block_table, 2);
  HONE_CHECK(block_table.size(0) == rows, kOp, "block_table",
             "[R,max_blocks] with R = " + std::to_string(rows), check::describe(block_table));
  check::dtype(kOp, "positions", positions, at::kLong);
  check::sizes(kOp, "positions", positions, {rows}, "[R]");
  if (qkv.is_cpu()) {
    check_decode_rows(block_table, positions, k_cache.size(0), k_cache.size(1), cos.size(0), shape);
  }
  return shape;
}

}  // namespace hone::kernels
