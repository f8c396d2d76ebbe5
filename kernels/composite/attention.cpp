#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/composite/transformer.h"

namespace hone::kernels::composite {

using at::Tensor;

namespace {

/// Heads `first` .. `first+count-1` of rows [..,width] as [..,count,T,head_dim].
Tensor heads_of(const AttentionShape& s, const Tensor& rows, int64_t first, int64_t count) {
  auto sizes = rows.sizes().vec();
  sizes.back() = count;
  sizes.push_back(s.head_dim);
  return rows.narrow(-1, first * s.head_dim, count * s.head_dim).reshape(sizes).transpose(-2, -3);
}

/// Rotates [..,T,head_dim] by tables [T,head_dim/2]; with -sin it rotates back.
Tensor rotate(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const auto halves = x.chunk(2, -1);
  return at::cat({halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin}, -1);
}

/// Sequences computed together as B rows of T tokens. A shorter one is filled up behind its end
/// with its own first token: no query of its sees those, and no gradient comes to them.
struct Together {
  int64_t sequences, length;
  Tensor token;          // [B*T] int64, row of qkv
  Tensor place, origin;  // [tokens] int64: where in B*T each true token is, and its row of qkv

  Tensor gather(const Tensor& rows) const {  // [N,W] -> [B,T,W]
    return rows.index_select(0, token).view({sequences, length, rows.size(1)});
  }
  Tensor gather_or_zero(const Tensor& rows) const {
    Tensor out = at::zeros({sequences * length, rows.size(1)}, rows.options());
    return out.index_copy_(0, place, rows.index_select(0, origin))
        .view({sequences, length, rows.size(1)});
  }
  void scatter(const Tensor& values, Tensor rows) const {  // [B,T,W] -> rows [N,W]
    rows.index_copy_(0, origin, values.reshape({-1, rows.size(1)}).index_select(0, place));
  }
};

/// visit(together) until every sequence that has tokens was in one; at most kScores scores a head.
template <typename Visit>
void for_sequences(const Tensor& cu_seqlens, const Visit& visit) {
  constexpr int64_t kScores = 1 << 22;
  const Tensor host = cu_seqlens.cpu().contiguous();
  const int64_t* cu = host.const_data_ptr<int64_t>();
  const auto length = [&](int64_t b) { return cu[b + 1] - cu[b]; };
  std::vector<int64_t> order;
  for (int64_t b = 0; b + 1 < host.size(0); ++b) {
    if (length(b) > 0) order.push_back(b);
  }
  // Neighbours in length: little is filled up.
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return length(a) > length(b); });
  for (size_t first = 0; first < order.size();) {
    const int64_t longest = length(order[first]);
    const int64_t most = std::max<int64_t>(1, kScores / (longest * longest));
    const size_t end = std::min(order.size(), first + static_cast<size_t>(most));
    std::vector<int64_t> token, place, origin;
    for (size_t i = first; i < end; ++i) {
      const int64_t begin = cu[order[i]];
      for (int64_t t = 0; t < longest; ++t) {
        const bool is_there = t < length(order[i]);
        if (is_there) {
          place.push_back(static_cast<int64_t>(token.size()));
          origin.push_back(begin + t);
        }
        token.push_back(is_there ? begin + t : begin);
      }
    }
    const auto on_device = [&](const std::vector<int64_t>& values) {
      return at::tensor(values, at::kLong).to(cu_seqlens.device());
    };
    visit(Together{static_cast<int64_t>(end - first), longest, on_device(token), on_device(place),
                   on_device(origin)});
    first = end;
  }
}

/// What attention reads of them.
struct Rows {
  Tensor q, k, v;   // [B,heads,T,head_dim], q rotated and scaled, k rotated, repeated to heads
  Tensor visible;   // [T,T] bool
  Tensor cos, sin;  // [T,head_dim/2]

  Rows(const AttentionShape& s, const Tensor& rows, const Tensor& cos_table,
       const Tensor& sin_table) {
    const int64_t length = rows.size(1);
    cos = cos_table.narrow(0, 0, length);
    sin = sin_table.narrow(0, 0, length);
    q = rotate(heads_of(s, rows, 0, s.heads), cos, sin) * s.scale;
    k = rotate(heads_of(s, rows, s.heads, s.kv_heads), cos, sin).repeat_interleave(s.group, 1);
    v = heads_of(s, rows, s.heads + s.kv_heads, s.kv_heads).repeat_interleave(s.group, 1);
    const Tensor at_key = at::arange(length, rows.options().dtype(at::kLong));
    const Tensor distance = at_key.unsqueeze(1) - at_key;
    visible = distance >= 0;
    if (s.window > 0) visible = visible.logical_and(distance < s.window);
  }

  Tensor scores() const {
    return at::matmul(q, k.transpose(-1, -2))
        .masked_fill(visible.logical_not(), -std::numeric_limits<double>::infinity());
  }
};

/// [B,heads,T,head_dim] -> [B,T,heads*head_dim].
Tensor flat(const Tensor& x) {
  return x.transpose(1, 2).reshape({x.size(0), x.size(2), x.size(1) * x.size(3)});
}

}  // namespace

std::tuple<Tensor, Tensor> attention_forward(const AttentionShape& s, const Tensor& qkv,
                                             const Tensor& cu_seqlens, const Tensor& cos,
                                             const Tensor& sin) {
  Tensor out = at::empty({qkv.size(0), s.heads * s.head_dim}, qkv.options());
  Tensor lse = at::empty({qkv.size(0), s.heads}, qkv.options());
  for_sequences(cu_seqlens, [&](const Together& together) {
    const Rows x(s, together.gather(qkv), cos, sin);
    const Tensor scores = x.scores(), row_lse = scores.logsumexp(-1);
    together.scatter(row_lse.transpose(1, 2), lse);
    together.scatter(flat(at::matmul((scores - row_lse.unsqueeze(-1)).exp(), x.v)), out);
  });
  return {out, lse.t().contiguous()};
}

Tensor attention_backward(const AttentionShape& s, const Tensor& grad, const Tensor& qkv,
                          const Tensor& cu_seqlens, const Tensor& cos, const Tensor& sin,
                          const Tensor& out, const Tensor& lse) {
  Tensor d_qkv = at::empty(qkv.sizes(), qkv.options());
  const Tensor lse_by_token = lse.t();
  const auto over_group = [&](const Tensor& x) {
    return x.reshape({x.size(0), s.kv_heads, s.group, x.size(2), s.head_dim}).sum(2);
  };
  for_sequences(cu_seqlens, [&](const Together& together) {
    const Rows x(s, together.gather(qkv), cos, sin);
    const Tensor d_out = heads_of(s, together.gather_or_zero(grad), 0, s.heads);
    const Tensor o = heads_of(s, together.gather(out), 0, s.heads);
    const Tensor row_lse = together.gather(lse_by_token).transpose(1, 2).unsqueeze(-1);
    // Behind an end the log sum is the first token's: its scores there may be above it, and 0 times
    // an overflow is none.
    const Tensor p = (x.scores() - row_lse).clamp_max(0.0).exp();
    const Tensor delta = (d_out * o).sum(-1, /*keepdim=*/true);
    const Tensor d_scores = p * (at::matmul(d_out, x.v.transpose(-1, -2)) - delta);
    const Tensor d_q = rotate(at::matmul(d_scores, x.k) * s.scale, x.cos, -x.sin);
    const Tensor d_k =
        rotate(over_group(at::matmul(d_scores.transpose(-1, -2), x.q)), x.cos, -x.sin);
    const Tensor d_v = over_group(at::matmul(p.transpose(-1, -2), d_out));
    together.scatter(at::cat({flat(d_q), flat(d_k), flat(d_v)}, -1), d_qkv);
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
