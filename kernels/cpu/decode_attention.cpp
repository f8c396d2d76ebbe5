#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/attention_shape.h"
#include "kernels/checks.h"
#include "kernels/math/rope.h"

namespace hone::kernels {
namespace {

using at::Tensor;

constexpr const char* kOp = "decode_attention";

template <typename T>
struct Cache {
  T *k, *v;              // [blocks, block_size, kv_heads, head_dim]
  const int32_t* table;  // [R, max_blocks]
  int64_t block_size, max_blocks, kv_heads, head_dim;

  int64_t offset(int64_t row, int64_t position, int64_t kv_head) const {
    const int64_t block = table[row * max_blocks + position / block_size];
    return ((block * block_size + position % block_size) * kv_heads + kv_head) * head_dim;
  }
};

template <typename T>
void rotate(T* x, const T* cos, const T* sin, int64_t half) {
  for (int64_t i = 0; i < half; ++i) math::rope_rotate(x[i], x[i + half], cos[i], sin[i]);
}

template <typename T>
void decode_item(const AttentionShape& s, const Cache<T>& cache, const T* qkv, const T* cos,
                 const T* sin, int64_t row, int64_t position, int64_t kv_head, T* out) {
  const int64_t d = s.head_dim;
  cos += position * (d / 2);
  sin += position * (d / 2);
  const T* new_k = qkv + (s.heads + kv_head) * d;
  const T* new_v = qkv + (s.heads + s.kv_heads + kv_head) * d;
  const int64_t here = cache.offset(row, position, kv_head);
  std::copy(new_k, new_k + d, cache.k + here);
  rotate(cache.k + here, cos, sin, d / 2);
  std::copy(new_v, new_v + d, cache.v + here);

  std::vector<T> q(d), scores(position + 1);
  for (int64_t head = kv_head * s.group; head < (kv_head + 1) * s.group; ++head) {
    std::copy(qkv + head * d, qkv + (head + 1) * d, q.begin());
    rotate(q.data(), cos, sin, d / 2);
    T top = -std::numeric_limits<T>::infinity();
    for (int64_t j = s.first_key(position); j <= position; ++j) {
      const T* k = cache.k + cache.offset(row, j, kv_head);
      T sum = 0;
      for (int64_t i = 0; i < d; ++i) sum += q[i] * k[i];
      scores[j] = sum * static_cast<T>(s.scale);
      top = std::max(top, scores[j]);
    }
    T* o = out + head * d;
    std::fill(o, o + d, T(0));
    T sum = 0;
    for (int64_t j = s.first_key(position); j <= position; ++j) {
      const T e = std::exp(scores[j] - top);
      const T* v = cache.v + cache.offset(row, j, kv_head);
      sum += e;
      for (int64_t i = 0; i < d; ++i) o[i] += e * v[i];
    }
    for (int64_t i = 0; i < d; ++i) o[i] /= sum;
  }
}

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
    const Cache<scalar_t> cache{k_cache.data_ptr<scalar_t>(),
                                v_cache.data_ptr<scalar_t>(),
                                table.const_data_ptr<int32_t>(),
                                k_cache.size(1),
                                table.size(1),
                                kv_heads,
                                head_dim};
    at::parallel_for(0, rows * kv_heads, 8, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t row = item / kv_heads;
        decode_item(shape, cache, in.const_data_ptr<scalar_t>() + row * shape.width,
                    c.const_data_ptr<scalar_t>(), s.const_data_ptr<scalar_t>(), row,
                    at_position.const_data_ptr<int64_t>()[row], item % kv_heads,
                    out.data_ptr<scalar_t>() + row * heads * head_dim);
      }
    });
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) { m.impl("decode_attention", &decode_attention_cpu); }

}  // namespace hone::kernels
