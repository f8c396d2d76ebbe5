#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <type_traits>

#include "kernels/bfloat16.h"
#include "kernels/cpu/decode_row.h"
#include "kernels/model_inputs.h"

namespace hone::kernels {
namespace {

using at::Tensor;

Tensor decode_attention_cpu(const Tensor& qkv, const Tensor& k_cache, const Tensor& v_cache,
                            const Tensor& block_table, const Tensor& positions, const Tensor& cos,
                            const Tensor& sin, int64_t heads, int64_t kv_heads, int64_t head_dim,
                            double scale, int64_t window) {
  const AttentionShape shape =
      check_decode_attention(qkv, k_cache, v_cache, block_table, positions, cos, sin, heads,
                             kv_heads, head_dim, scale, window);
  const int64_t rows = qkv.size(0);
  const Tensor in = computed(qkv), table = block_table.contiguous();
  const Tensor at_position = positions.contiguous(), c = computed(cos), s = computed(sin);
  Tensor out = at::empty({rows, heads * head_dim}, in.options());
  const auto run = [&](auto* k, auto* v, auto number) {
    using T = decltype(number);
    using S = std::remove_pointer_t<decltype(k)>;
    const auto row_of = [&](int64_t row) {
      const int64_t position = at_position.const_data_ptr<int64_t>()[row];
      return DecodeRow<T, S>{shape,
                             in.const_data_ptr<T>() + row * shape.width,
                             c.const_data_ptr<T>() + position * (head_dim / 2),
                             s.const_data_ptr<T>() + position * (head_dim / 2),
                             k,
                             v,
                             table.const_data_ptr<int32_t>() + row * table.size(1),
                             k_cache.size(1),
                             position,
                             out.data_ptr<T>() + row * heads * head_dim};
    };
    // All enter the cache before any attends: rows may be of one sequence (a piece of a prompt).
    at::parallel_for(0, rows, 64, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const auto item = row_of(row);
        for (int64_t head = 0; head < kv_heads; ++head) enter_cache(item, head);
      }
    });
    at::parallel_for(0, rows * kv_heads, 8, [&](int64_t begin, int64_t end) {
      DecodeScratch<T> scratch;
      for (int64_t item = begin; item < end; ++item) {
        decode_row(row_of(item / kv_heads), item % kv_heads, scratch);
      }
    });
  };
  // The caches are read in the type they hold; everything else is a row.
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, qkv.scalar_type(), "decode_attention", [&] {
    using number_t = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;
    run(k_cache.data_ptr<scalar_t>(), v_cache.data_ptr<scalar_t>(), number_t());
  });
  return rounded(out, qkv);
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) { m.impl("decode_attention", &decode_attention_cpu); }

}  // namespace hone::kernels
