#include <ATen/ATen.h>

#include <limits>

#include "kernels/composite/transformer.h"

namespace hone::kernels::composite {

using at::Tensor;

namespace {

/// Heads `first` .. `first+count-1` of rows [T,width] as [count,T,head_dim].
Tensor heads_of(const AttentionShape& s, const Tensor& rows, int64_t first, int64_t count) {
  return rows.narrow(1, first * s.head_dim, count * s.head_dim)
      .reshape({rows.size(0), count, s.head_dim})
      .transpose(0, 1);
}

/// Rotates [heads,T,head_dim] by tables [T,head_dim/2]; with -sin it rotates back.
Tensor rotate(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const auto halves = x.chunk(2, -1);
  return at::cat({halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin}, -1);
}

struct Sequence {
  Tensor q, k, v;   // [heads,T,head_dim], q rotated and scaled, k rotated, both repeated to heads
  Tensor visible;   // [T,T] bool
  Tensor cos, sin;  // [T,head_dim/2]

  Sequence(const AttentionShape& s, const Tensor& rows, const Tensor& cos_table,
           const Tensor& sin_table) {
    const int64_t length = rows.size(0);
    cos = cos_table.narrow(0, 0, length);
    sin = sin_table.narrow(0, 0, length);
    q = rotate(heads_of(s, rows, 0, s.heads), cos, sin) * s.scale;
    k = rotate(heads_of(s, rows, s.heads, s.kv_heads), cos, sin).repeat_interleave(s.group, 0);
    v = heads_of(s, rows, s.heads + s.kv_heads, s.kv_heads).repeat_interleave(s.group, 0);
    const Tensor at_key = at::arange(length, rows.options().dtype(at::kLong));
    const Tensor distance = at_key.unsqueeze(1) - at_key;
    visible = distance >= 0;
    if (s.window > 0) visible = visible.logical_and(distance < s.window);
  }

  Tensor scores() const {
    return at::matmul(q, k.transpose(1, 2))
        .masked_fill(visible.logical_not(), -std::numeric_limits<double>::infinity());
  }
};

/// [heads,T,head_dim] -> [T,heads*head_dim].
Tensor flat(const Tensor& x) { return x.transpose(0, 1).reshape({x.size(1), -1}); }

/// visit(begin, length) for every sequence that has tokens.
template <typename Visit>
void for_sequences(const Tensor& cu_seqlens, const Visit& visit) {
  const Tensor host = cu_seqlens.cpu().contiguous();
  const int64_t* cu = host.const_data_ptr<int64_t>();
  for (int64_t b = 0; b + 1 < host.size(0); ++b) {
    if (cu[b + 1] > cu[b]) visit(cu[b], cu[b + 1] - cu[b]);
  }
}

}  // namespace

std::tuple<Tensor, Tensor> attention_forward(const AttentionShape& s, const Tensor& qkv,
                                             const Tensor& cu_seqlens, const Tensor& cos,
                                             const Tensor& sin) {
  Tensor out = at::empty({qkv.size(0), s.heads * s.head_dim}, qkv.options());
  Tensor lse = at::empty({s.heads, qkv.size(0)}, qkv.options());
  for_sequences(cu_seqlens, [&](int64_t begin, int64_t length) {
    const Sequence x(s, qkv.narrow(0, begin, length), cos, sin);
    const Tensor scores = x.scores(), row_lse = scores.logsumexp(-1);
    lse.narrow(1, begin, length).copy_(row_lse);
    out.narrow(0, begin, length)
        .copy_(flat(at::matmul((scores - row_lse.unsqueeze(-1)).exp(), x.v)));
  });
  return {out, lse};
}

Tensor attention_backward(const AttentionShape& s, const Tensor& grad, const Tensor& qkv,
                          const Tensor& cu_seqlens, const Tensor& cos, const Tensor& sin,
                          const Tensor& out, const Tensor& lse) {
  Tensor d_qkv = at::empty(qkv.sizes(), qkv.options());
  const auto over_group = [&](const Tensor& x) {
    return x.reshape({s.kv_heads, s.group, x.size(1), s.head_dim}).sum(1);
  };
  for_sequences(cu_seqlens, [&](int64_t begin, int64_t length) {
    const Sequence x(s, qkv.narrow(0, begin, length), cos, sin);
    const Tensor d_out = heads_of(s, grad.narrow(0, begin, length), 0, s.heads);
    const Tensor o = heads_of(s, out.narrow(0, begin, length), 0, s.heads);
    const Tensor p = (x.scores() - lse.narrow(1, begin, length).unsqueeze(-1)).exp();
    const Tensor delta = (d_out * o).sum(-1, /*keepdim=*/true);
    const Tensor d_scores = p * (at::matmul(d_out, x.v.transpose(1, 2)) - delta);
    const Tensor d_q = rotate(at::matmul(d_scores, x.k) * s.scale, x.cos, -x.sin);
    const Tensor d_k = rotate(over_group(at::matmul(d_scores.transpose(1, 2), x.q)), x.cos, -x.sin);
    const Tensor d_v = over_group(at::matmul(p.transpose(1, 2), d_out));
    d_qkv.narrow(0, begin, length).copy_(at::cat({flat(d_q), flat(d_k), flat(d_v)}, 1));
  });
  return d_qkv;
}

Tensor decode_attention(const AttentionShape& s, const Tensor& qkv, const Tensor& k_cache,
                        const Tensor& v_cache, const Tensor& block_table, const Tensor& positions,
                        const Tensor& cos, const Tensor& sin) {
  const int64_t rows = qkv.size(0), block_size = k_cache.size(1);
  if (rows == 0) return at::empty({0, s.heads * s.head_dim}, qkv.options());
  const Tensor row_cos = cos.index_select(0, positions), row_sin = sin.index_select(0, positions);
  const Tensor q = rotate(heads_of(s, qkv, 0, s.heads), row_cos, row_sin).transpose(0, 1) * s.scale;
  const Tensor k = rotate(heads_of(s, qkv, s.heads, s.kv_heads), row_cos, row_sin).transpose(0, 1);
  const Tensor v = heads_of(s, qkv, s.heads + s.kv_heads, s.kv_heads).transpose(0, 1);
  const Tensor table = block_table.to(at::kLong);
  const Tensor block = table.gather(1, positions.floor_divide(block_size).unsqueeze(1)).squeeze(1);
  const Tensor slot = block * block_size + positions.remainder(block_size);
  const auto slots = [&](const Tensor& cache) { return cache.view({-1, s.kv_heads, s.head_dim}); };
  slots(k_cache).index_copy_(0, slot, k);
  slots(v_cache).index_copy_(0, slot, v);

  const int64_t context = positions.max().item<int64_t>() + 1;
  const Tensor j = at::arange(context, positions.options());
  Tensor visible = j <= positions.unsqueeze(1);
  if (s.window > 0) visible = visible.logical_and(j > positions.unsqueeze(1) - s.window);
  // Slots that a row does not see may name no block at all; slot 0 stands in for them.
  const Tensor where =
      (table.index_select(1, j.floor_divide(block_size)) * block_size + j.remainder(block_size))
          .masked_fill(visible.logical_not(), 0);
  const auto gather = [&](const Tensor& cache) {  // [R,heads,context,head_dim]
    return slots(cache)
        .index_select(0, where.flatten())
        .view({rows, context, s.kv_heads, s.head_dim})
        .masked_fill(visible.logical_not().unsqueeze(-1).unsqueeze(-1), 0.0)
        .transpose(1, 2)
        .repeat_interleave(s.group, 1);
  };
  const Tensor scores = at::matmul(q.unsqueeze(2), gather(k_cache).transpose(2, 3))
                            .masked_fill(visible.logical_not().unsqueeze(1).unsqueeze(1),
                                         -std::numeric_limits<double>::infinity());
  return at::matmul(at::softmax(scores, -1), gather(v_cache)).reshape({rows, -1});
}

}  // namespace hone::kernels::composite
