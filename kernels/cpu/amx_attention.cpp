#include "kernels/cpu/amx_attention.h"

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/amx_workspace.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/amx_attention.cpp"
#include "kernels/cpu/highway_targets.h"
// After the targets.
#include "hwy/foreach_target.h"
// After foreach_target.
#include "hwy/highway.h"
#include "kernels/cpu/amx_attention_rows-inl.h"
#include "kernels/cpu/vector_exp-inl.h"

HONE_BEFORE_AMX();
namespace hone::kernels::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX3

/// A column of 16 queries on its way through the keys.
struct Softmax {
  __m512 top, sum;
};

/// Scores of one column and `count` keys from `first` on become probabilities, as pairs; zeros up
/// to `all` keys, whole blocks of 32. Returns by what earlier sums shrink (Milakov & Gimelshein
/// 2018).
HWY_INLINE __m512 softmax_keys(const Heads& heads, int64_t query, int64_t first, int64_t count,
                               int64_t all, float* scores, uint16_t* pairs, Softmax& state) {
  __m512 top = state.top;
  for (int64_t k = 0; k < count; k += kTileSide) {
    float* tile = scores + k * kQueries;
    if (heads.all_visible(query, first + k)) {
      for (int64_t r = 0; r < kTileSums; r += 16)
        top = _mm512_max_ps(top, _mm512_load_ps(tile + r));
      continue;
    }
    for (int64_t r = 0; r < kTileSide; ++r) {
      const __m512 score =
          _mm512_mask_mov_ps(_mm512_set1_ps(-2e30F), heads.visible(query, first + k + r),
                             _mm512_load_ps(tile + r * kTileSide));
      _mm512_store_ps(tile + r * kTileSide, score);
      top = _mm512_max_ps(top, score);
    }
  }
  const __m512 shrink = power_of_two(_mm512_sub_ps(state.top, top));
  __m512 sum = _mm512_mul_ps(state.sum, shrink), sum2 = _mm512_setzero_ps();
  for (int64_t k = 0; k < count; k += kTileSide) {
    const float* tile = scores + k * kQueries;
    for (int64_t r = 0; r < kTileSums; r += 32, pairs += 32) {
      const __m512 p = power_of_two(_mm512_sub_ps(_mm512_load_ps(tile + r), top));
      const __m512 q = power_of_two(_mm512_sub_ps(_mm512_load_ps(tile + r + 16), top));
      sum = _mm512_add_ps(sum, p);
      sum2 = _mm512_add_ps(sum2, q);
      _mm512_store_si512(pairs, pair(p, q));
    }
  }
  for (int64_t k = count; k < all; k += 2, pairs += 32) {
    _mm512_store_si512(pairs, _mm512_setzero_si512());
  }
  state.top = top;
  state.sum = _mm512_add_ps(sum, sum2);
  return shrink;
}

void forward_item(const AmxAttentionTask& task, int64_t sequence, int64_t kv_head) {
  const Heads heads(task, sequence, kv_head);
  const int64_t length = heads.length(), all = heads.rounded_length(), size = heads.row_size();
  const int64_t inner = heads.inner(), dim_tiles = heads.dim_tiles(), blocks = all / kTileInner;
  if (length == 0) return;
  AmxWorkspace room(
      2 * (2 * all * size + all * heads.dim_columns() + 2 * kQueries * size + kKeys * kQueries) +
      4 * (kKeys + 2 * heads.dim_columns()) * kQueries);
  auto* keys = room.take<uint16_t>(all * size);
  auto* values = room.take<uint16_t>(all * size);
  auto* value_columns = room.take<uint16_t>(all * heads.dim_columns());
  auto* query_rows = room.take<uint16_t>(kQueries * size);
  auto* queries = room.take<uint16_t>(kQueries * size);
  auto* probabilities = room.take<uint16_t>(kKeys * kQueries);
  auto* scores = room.take<float>(kKeys * kQueries);
  auto* out = room.take<float>(heads.dim_columns() * kQueries);
  auto* out_rows = room.take<float>(heads.dim_columns() * kQueries);
  heads.load(heads.key_head(), 0, all, keys);
  heads.load(heads.value_head(), 0, all, values);
  turn_columns(values, all, heads, value_columns);
  const Tiles tiles;
  for_query_blocks(heads, [&](const QueryBlock& block) {
    for (int64_t c = 0; c < block.columns; ++c) {
      const auto& column = block.column[c];
      heads.load(column.head, column.query, kTileSide, query_rows + c * kTileSide * size);
    }
    turn_rows(query_rows, block.columns, inner, queries);
    // Finite, so that a lane that has seen no key yet stays free of inf - inf.
    const Softmax none{_mm512_set1_ps(-1e30F), _mm512_setzero_ps()};
    Softmax state[kColumns] = {none, none, none, none};
    for (int64_t first = block.first; first < block.last; first += kKeys) {
      const int64_t count = std::min(kKeys, block.last - first);
      product(LeftTiles::rows(keys + first * size, size), {queries, inner}, count / kTileSide,
              block.columns, inner, nullptr, SumTiles::packed(scores, kColumns));
      const int64_t whole = (count + kTileInner - 1) / kTileInner;
      for (int64_t c = 0; c < block.columns; ++c) {
        const __m512 shrink = softmax_keys(
            heads, block.column[c].query, first, block.keys(c, first, count), whole * kTileInner,
            scores + c * kTileSums, probabilities + c * kKeyTiles * kTileElements, state[c]);
        if (first == block.first) continue;
        for (int64_t i = 0; i < heads.dim_columns(); ++i) {
          float* row = out + ((i / 16 * kColumns + c) * 16 + i % 16) * kTileSide;
          _mm512_store_ps(row, _mm512_mul_ps(_mm512_load_ps(row), shrink));
        }
      }
      product(columns_from(value_columns, blocks, first), {probabilities, kKeyTiles}, dim_tiles,
              block.columns, whole, first > block.first ? out : nullptr,
              SumTiles::packed(out, kColumns));
    }
    rows_of(out, block.columns, dim_tiles, out_rows);
    const hn::ScalableTag<float> d;
    for (int64_t c = 0; c < block.columns; ++c) {
      const auto& [head, query, rows] = block.column[c];
      const auto& [top, sum] = state[c];
      alignas(64) float inverse[kTileSide];
      _mm512_store_ps(inverse, _mm512_div_ps(_mm512_set1_ps(1.0F), sum));
      const __m512 lse = _mm512_fmadd_ps(top, _mm512_set1_ps(1.0F / kScoreUnit),
                                         hn::Log(d, hn::Vec<decltype(d)>{sum}).raw);
      _mm512_mask_storeu_ps(heads.lse(query, head), lanes(rows), lse);
      for (int64_t t = 0; t < rows; ++t) {
        heads.store_out(out_rows + (c * kTileSide + t) * heads.dim_columns(), query + t, head,
                        inverse[t]);
      }
    }
  });
}

/// Operands of the gradients, from scores and d probabilities of a block of queries and `kKeys`
/// keys.
struct ScoreGradients {
  float *scores, *d_scores;  // tiles [keys, kColumns]
  uint16_t *p_rows,
      *ds_rows;        // left tiles [16 keys, 32 queries], kPairs of them for a row of tiles
  uint16_t* ds_pairs;  // right tiles [kColumns, 32 keys]
};

/// One tile of 16 keys, `key` of them before it in the buffers, and two columns from `column` on;
/// those that see none of the keys give zeros.
template <bool kFirst, bool kSecond>
HWY_INLINE void score_gradients(const Heads& heads, const ScoreGradients& g,
                                const QueryBlock& block, int64_t column, int64_t first, int64_t key,
                                const float* lse, const float* delta) {
  constexpr bool kSees[2] = {kFirst, kSecond};
  const int64_t query[2] = {block.column[column].query,
                            kSecond ? block.column[column + 1].query : 0};
  const bool whole = (!kFirst || heads.all_visible(query[0], first + key)) &&
                     (!kSecond || heads.all_visible(query[1], first + key));
  const int64_t tile = (key / kTileSide * kColumns + column) * kTileSums;
  const int64_t rows = (key / kTileSide * kPairs + column / 2) * kTileElements;
  for (int64_t r = 0; r < kTileSide; r += 2) {
    __m512 p[2][2], ds[2][2];  // [key][column]
    for (int c = 0; c < 2; ++c) {
      const int64_t lane = (column + c) * kTileSide;
      for (int k = 0; k < 2; ++k) {
        p[k][c] = ds[k][c] = _mm512_setzero_ps();
        if (!kSees[c]) continue;
        const int64_t at = tile + c * kTileSums + (r + k) * kTileSide;
        __m512 score = _mm512_sub_ps(_mm512_load_ps(g.scores + at), _mm512_load_ps(lse + lane));
        if (!whole) {
          // Hidden scores may be anything.
          score = _mm512_mask_mov_ps(_mm512_set1_ps(-1e30F),
                                     heads.visible(query[c], first + key + r + k), score);
        }
        p[k][c] = power_of_two(score);
        ds[k][c] = _mm512_mul_ps(
            p[k][c], _mm512_sub_ps(_mm512_load_ps(g.d_scores + at), _mm512_load_ps(delta + lane)));
      }
      uint16_t* pairs = g.ds_pairs + ((column + c) * kKeyTiles + key / 32) * kTileElements;
      _mm512_store_si512(pairs + (key % 32 + r) * 16, pair(ds[0][c], ds[1][c]));
    }
    for (int k = 0; k < 2; ++k) {
      const int64_t at = rows + (r + k) * kTileInner;
      _mm512_store_si512(g.p_rows + at,
                         reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(p[k][1], p[k][0])));
      _mm512_store_si512(g.ds_rows + at,
                         reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(ds[k][1], ds[k][0])));
    }
  }
}

/// Rows [32 * count, row_size] as the right operand of products along the rows.
void pair_queries(const uint16_t* rows, int64_t count, const Heads& heads, uint16_t* tiles) {
  const int64_t size = heads.row_size();
  for (int64_t j = 0; j < heads.dim_tiles(); ++j) {
    for (int64_t t = 0; t < count; ++t) {
      to_right_tile(rows + t * kTileInner * size + j * kTileSide, size,
                    tiles + (j * kPairs + t) * kTileElements);
    }
  }
}

void backward_item(const AmxAttentionTask& task, int64_t sequence, int64_t kv_head) {
  const Heads heads(task, sequence, kv_head);
  const int64_t length = heads.length(), all = heads.rounded_length(), size = heads.row_size();
  const int64_t inner = heads.inner(), dim_tiles = heads.dim_tiles(), blocks = all / kTileInner;
  const int64_t columns = heads.dim_columns();
  if (length == 0) return;
  AmxWorkspace room(2 * (2 * all * size + all * columns + kQueries * (6 * size + 2 * columns) +
                         3 * kKeys * kQueries) +
                    4 * (2 * all * columns + 2 * kKeys * kQueries + 2 * columns * kQueries));
  auto* keys = room.take<uint16_t>(all * size);
  auto* values = room.take<uint16_t>(all * size);
  auto* key_columns = room.take<uint16_t>(all * columns);
  auto* query_rows = room.take<uint16_t>(kQueries * size);
  auto* queries = room.take<uint16_t>(kQueries * size);
  auto* query_pairs = room.take<uint16_t>(kQueries * columns);
  auto* grad_rows = room.take<uint16_t>(kQueries * size);
  auto* grads = room.take<uint16_t>(kQueries * size);
  auto* grad_pairs = room.take<uint16_t>(kQueries * columns);
  auto* out_rows = room.take<uint16_t>(kQueries * size);
  auto* outs = room.take<uint16_t>(kQueries * size);
  ScoreGradients g;
  g.p_rows = room.take<uint16_t>(kKeys * kQueries);
  g.ds_rows = room.take<uint16_t>(kKeys * kQueries);
  g.ds_pairs = room.take<uint16_t>(kKeys * kQueries);
  g.scores = room.take<float>(kKeys * kQueries);
  g.d_scores = room.take<float>(kKeys * kQueries);
  auto* d_keys = room.take<float>(all * columns);
  auto* d_values = room.take<float>(all * columns);
  auto* d_query = room.take<float>(columns * kQueries);
  auto* d_query_rows = room.take<float>(columns * kQueries);
  std::fill(d_keys, d_keys + all * columns, 0.0F);
  std::fill(d_values, d_values + all * columns, 0.0F);
  heads.load(heads.key_head(), 0, all, keys);
  heads.load(heads.value_head(), 0, all, values);
  turn_columns(keys, all, heads, key_columns);
  alignas(64) float lse[kQueries], delta[kQueries];
  const Tiles tiles;
  for_query_blocks(heads, [&](const QueryBlock& block) {
    for (int64_t c = 0; c < 2 * block.pairs(); ++c) {
      const int64_t place = c * kTileSide * size;
      const auto [head, query, rows] =
          c < block.columns ? block.column[c] : QueryBlock::Column{0, length, 0};  // zeros
      heads.load(head, query, kTileSide, query_rows + place);
      heads.load_gradient(head, query, kTileSide, grad_rows + place);
      heads.load_out(head, query, kTileSide, out_rows + place);
    }
    turn_rows(query_rows, block.columns, inner, queries);
    turn_rows(grad_rows, block.columns, inner, grads);
    turn_rows(out_rows, block.columns, inner, outs);
    pair_queries(query_rows, block.pairs(), heads, query_pairs);
    pair_queries(grad_rows, block.pairs(), heads, grad_pairs);
    for (int64_t c = 0; c < block.columns; ++c) {
      const auto& [head, query, rows] = block.column[c];
      // No probability where there is no query.
      const __m512 from = _mm512_maskz_loadu_ps(lanes(rows), heads.lse(query, head));
      _mm512_store_ps(lse + c * 16, _mm512_mask_mul_ps(_mm512_set1_ps(1e30F), lanes(rows), from,
                                                       _mm512_set1_ps(kScoreUnit)));
      _mm512_store_ps(delta + c * 16, dots(outs + c * inner * kTileElements,
                                           grads + c * inner * kTileElements, heads.dim()));
    }
    for (int64_t first = block.first; first < block.last; first += kKeys) {
      const int64_t count = std::min(kKeys, block.last - first), key_tiles = count / kTileSide;
      product(LeftTiles::rows(keys + first * size, size), {queries, inner}, key_tiles,
              block.columns, inner, nullptr, SumTiles::packed(g.scores, kColumns));
      product(LeftTiles::rows(values + first * size, size), {grads, inner}, key_tiles,
              block.columns, inner, nullptr, SumTiles::packed(g.d_scores, kColumns));
      const int64_t whole = (count + kTileInner - 1) / kTileInner;
      for (int64_t c = 0; c < block.columns; c += 2) {
        for (int64_t k = 0; k < whole * kTileInner; k += kTileSide) {
          const bool sees = k < block.keys(c, first, count);
          const bool sees_too = k < block.keys(c + 1, first, count);
          if (sees && sees_too) {
            score_gradients<true, true>(heads, g, block, c, first, k, lse, delta);
          } else if (sees) {
            score_gradients<true, false>(heads, g, block, c, first, k, lse, delta);
          } else if (sees_too) {
            score_gradients<false, true>(heads, g, block, c, first, k, lse, delta);
          } else {
            score_gradients<false, false>(heads, g, block, c, first, k, lse, delta);
          }
        }
      }
      const auto add_by_keys = [&](const uint16_t* left, const uint16_t* right, float* to) {
        to += first * columns;
        product(LeftTiles::packed(left, kPairs), {right, kPairs}, key_tiles, dim_tiles,
                block.pairs(), to, SumTiles::rows(to, columns));
      };
      add_by_keys(g.p_rows, grad_pairs, d_values);
      add_by_keys(g.ds_rows, query_pairs, d_keys);
      product(columns_from(key_columns, blocks, first), {g.ds_pairs, kKeyTiles}, dim_tiles,
              block.columns, whole, first > block.first ? d_query : nullptr,
              SumTiles::packed(d_query, kColumns));
    }
    rows_of(d_query, block.columns, dim_tiles, d_query_rows);
    for (int64_t c = 0; c < block.columns; ++c) {
      const auto& [head, query, rows] = block.column[c];
      for (int64_t t = 0; t < rows; ++t) {
        heads.store_gradient(d_query_rows + (c * kTileSide + t) * columns, query + t, head);
      }
    }
  });
  for (int64_t t = 0; t < length; ++t) {
    heads.store_gradient(d_keys + t * columns, t, heads.key_head());
    heads.store_gradient(d_values + t * columns, t, heads.value_head());
  }
}

#else  // callers asked amx_usable(), which implies AVX-512

void forward_item(const AmxAttentionTask&, int64_t, int64_t) { no_matrix_unit(); }
void backward_item(const AmxAttentionTask&, int64_t, int64_t) { no_matrix_unit(); }

#endif

}  // namespace
}  // namespace hone::kernels::HWY_NAMESPACE
HONE_AFTER_AMX();

#if HWY_ONCE

namespace hone::kernels {

HWY_EXPORT(forward_item);
HWY_EXPORT(backward_item);

void amx_attention_forward_item(const AmxAttentionTask& task, int64_t sequence, int64_t kv_head) {
  HWY_DYNAMIC_DISPATCH(forward_item)(task, sequence, kv_head);
}

void amx_attention_backward_item(const AmxAttentionTask& task, int64_t sequence, int64_t kv_head) {
  HWY_DYNAMIC_DISPATCH(backward_item)(task, sequence, kv_head);
}

}  // namespace hone::kernels

#endif  // HWY_ONCE
