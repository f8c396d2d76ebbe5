#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <string>

#include "kernels/attention_shape.h"
#include "kernels/checks.h"
#include "kernels/cpu/decode_row.h"

namespace hone::kernels {
namespace {

using at::Tensor;

constexpr const char* kOp = "decode_attention";

/// Every block that a row will touch must exist: a bad table must not write elsewhere.
void check_rows(const Tensor& table, const Tensor& positions, int64_t blocks, int64_t block_size,
                int64_t table_rows_of_cos, int64_t window) {
  const int32_t* block = table.const_data_ptr<int32_t>();
  const int64_t* position = positions.const_data_ptr<int64_t>();
  const int64_t max_blocks = table.size(1);
  for (int64_t r = 0; r < positions.size(0); ++r) {
    HONE_CHECK(position[r] >= 0 && position[r] < table_rows_of_cos, kOp, "positions",
               "values in [0, P = " + std::to_string(table_rows_of_cos) + ")", position[r],
               " in row ", r);
    HONE_CHECK(position[r] / block_size < max_blocks, kOp, "block_table",
               "room for position " + std::to_string(position[r]), max_blocks, " blocks of ",
               block_size, " in row ", r);
    const int64_t first = window > 0 && position[r] >= window ? position[r] - window + 1 : 0;
    for (int64_t b = first / block_size; b <= position[r] / block_size; ++b) {
      HONE_CHECK(block[r * max_blocks + b] >= 0 && block[r * max_blocks + b] < blocks, kOp,
                 "block_table", "blocks in [0, " + std::to_string(blocks) + ")",
                 block[r * max_blocks + b], " in row ", r, ", column ", b);
    }
  }
}

Tensor decode_attention_cpu(const Tensor& qkv, const Tensor& k_cache, const Tensor& v_cache,
                            const Tensor& block_table, const Tensor& positions, const Tensor& cos,
                            const Tensor& sin, int64_t heads, int64_t kv_heads, int64_t head_dim,
                            double scale, int64_t window) {
  const AttentionShape shape =
      attention_shape(kOp, qkv, cos, sin, heads, kv_heads, head_dim, scale, window);
  const int64_t rows = qkv.size(0);
  check::rank(kOp, "k_cache", k_cache, 4);
  check::dtype(kOp, "k_cache", k_cache, qkv.scalar_type());
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
  const Tensor in = qkv.contiguous(), table = block_table.contiguous();
  const Tensor at_position = positions.contiguous(), c = cos.contiguous(), s = sin.contiguous();
  check_rows(table, at_position, k_cache.size(0), k_cache.size(1), cos.size(0), window);
  Tensor out = at::empty({rows, heads * head_dim}, qkv.options());
  AT_DISPATCH_FLOATING_TYPES(qkv.scalar_type(), kOp, [&] {
    at::parallel_for(0, rows * kv_heads, 8, [&](int64_t begin, int64_t end) {
      DecodeScratch<scalar_t> scratch;
      for (int64_t item = begin; item < end; ++item) {
        const int64_t row = item / kv_heads, position = at_position.const_data_ptr<int64_t>()[row];
        decode_row<scalar_t>(
            {shape, in.const_data_ptr<scalar_t>() + row * shape.width,
             c.const_data_ptr<scalar_t>() + position * (head_dim / 2),
             s.const_data_ptr<scalar_t>() + position * (head_dim / 2), k_cache.data_ptr<scalar_t>(),
             v_cache.data_ptr<scalar_t>(), table.const_data_ptr<int32_t>() + row * table.size(1),
             k_cache.size(1), position, out.data_ptr<scalar_t>() + row * heads * head_dim},
            item % kv_heads, scratch);
      }
    });
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) { m.impl("decode_attention", &decode_attention_cpu); }

}  // namespace hone::kernels
