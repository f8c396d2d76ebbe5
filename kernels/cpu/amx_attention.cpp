#include "kernels/cpu/amx_attention.h"

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/amx_workspace.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/amx_attention.cpp"
#include "kernels/cpu/highway_targets.h"
// After the targets.
#include "hwy/foreach_target.h"
// After foreach_target.
#include "hwy/highway.h"
#include "kernels/cpu/amx_tiles-inl.h"
#include "kernels/cpu/vector_exp-inl.h"

HWY_BEFORE_NAMESPACE();
#if HWY_TARGET == HWY_AVX3
#pragma GCC push_options
#pragma GCC target("avx512bf16,amx-tile,amx-bf16")
#endif
namespace hone::kernels::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX3

// Scores lie transposed, keys by queries, so that softmax needs no sums across lanes. Four columns
// of 16 queries meet at most 96 keys at a time: each step of the work is then long enough to hide
// the wait for the step before, and what they share stays in the first two levels of cache.
constexpr int64_t kColumns = 4, kQueries = kColumns * kTileSide, kPairs = kColumns / 2;
constexpr int64_t kKeys = 96, kKeyTiles = kKeys / kTileInner;

/// 2^x for x <= 127, within 3e-6, which the rounding to bfloat16 after it hides; 0 far below.
HWY_INLINE __m512 power_of_two(__m512 x) {
  constexpr int kFloor = 1;  // what is left of x above its floor
  const __m512 r = _mm512_reduce_ps(x, kFloor);
  // Minimax polynomial in relative error on [0, 1], fitted for this file.
  __m512 p = _mm512_set1_ps(0.013534090481698513F);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.052011456340551376F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.24144288897514343F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.69300377368927F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0000026226043701F));
  return _mm512_scalef_ps(p, x);  // times 2^floor(x)
}

/// One item's sizes and rows.
class Heads {
 public:
  Heads(const AmxAttentionTask& task, int64_t sequence, int64_t kv_head)
      : task_(task),
        kv_head_(kv_head),
        begin_(task.cu[sequence]),
        length_(task.cu[sequence + 1] - begin_),
        width_((task.heads + 2 * task.kv_heads) * task.head_dim) {}

  int64_t length() const { return length_; }
  int64_t rounded_length() const { return (length_ + kTileInner - 1) / kTileInner * kTileInner; }
  int64_t dim() const { return task_.head_dim; }
  int64_t inner() const { return (dim() + kTileInner - 1) / kTileInner; }  // tiles along a row
  int64_t row_size() const { return inner() * kTileInner; }
  int64_t dim_tiles() const { return (dim() + kTileSide - 1) / kTileSide; }
  int64_t dim_columns() const { return dim_tiles() * kTileSide; }
  int64_t group() const { return task_.heads / task_.kv_heads; }
  int64_t first_head() const { return kv_head_ * group(); }
  int64_t end_head() const { return first_head() + group(); }
  /// Heads count on through keys and values.
  int64_t key_head() const { return task_.heads + kv_head_; }
  int64_t value_head() const { return key_head() + task_.kv_heads; }
  int64_t qkv_offset(int64_t position, int64_t head) const {
    return (begin_ + position) * width_ + head * dim();
  }
  int64_t out_offset(int64_t position, int64_t head) const {
    return ((begin_ + position) * task_.heads + head) * dim();
  }
  float* lse(int64_t position, int64_t head) const {
    return task_.lse + head * task_.tokens + begin_ + position;
  }

  /// Rows of a head from `first` on, [count, row_size]; zeros to the right and in missing rows.
  void load(int64_t head, int64_t first, int64_t count, uint16_t* to) const {
    load_rows(task_.qkv + qkv_offset(first, head), width_, length_ - first, count, to);
  }
  void load_gradient(int64_t head, int64_t first, int64_t count, uint16_t* to) const {
    load_rows(task_.grad + out_offset(first, head), task_.heads * dim(), length_ - first, count,
              to);
  }
  void load_out(int64_t head, int64_t first, int64_t count, uint16_t* to) const {
    load_rows(task_.out + out_offset(first, head), task_.heads * dim(), length_ - first, count, to);
  }
  void store_gradient(const float* row, int64_t position, int64_t head) const {
    float* to = task_.d_qkv + qkv_offset(position, head);
    for (int64_t i = 0; i < dim(); i += 16) {
      _mm512_mask_storeu_ps(to + i, lanes(dim() - i), _mm512_load_ps(row + i));
    }
  }
  void store_out(const float* row, int64_t position, int64_t head, float scale) const {
    uint16_t* to = task_.out + out_offset(position, head);
    for (int64_t i = 0; i < dim(); i += 16) {
      const __m512 x = _mm512_mul_ps(_mm512_load_ps(row + i), _mm512_set1_ps(scale));
      _mm256_mask_storeu_epi16(to + i, lanes(dim() - i),
                               reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)));
    }
  }

  /// Lanes of the 16 queries from `query` on that see `key`.
  HWY_INLINE __mmask16 visible(int64_t query, int64_t key) const {
    const auto later = static_cast<__mmask16>(~lanes(key - query));
    if (task_.window == 0) return later;
    return later & lanes(key + task_.window - query);
  }
  /// Whether all of those queries see all of the 16 keys from `key` on.
  bool all_visible(int64_t query, int64_t key) const {
    return key + kTileSide - 1 <= query &&
           (task_.window == 0 || query + kTileSide - 1 < key + task_.window);
  }
  /// Of the first block of 32 keys that the query or a later one sees.
  int64_t first_key(int64_t query) const {
    const int64_t hidden = task_.window > 0 ? std::max<int64_t>(0, query - task_.window + 1) : 0;
    return hidden / kTileInner * kTileInner;
  }

 private:
  void load_rows(const uint16_t* from, int64_t stride, int64_t there, int64_t count,
                 uint16_t* to) const {
    for (int64_t t = 0; t < count; ++t, from += stride) {
      for (int64_t i = 0; i < row_size(); i += kTileInner, to += kTileInner) {
        const int64_t left = t < there ? dim() - i : 0;
        const auto mask = static_cast<__mmask32>(left >= 32 ? ~0U : (1U << left) - 1U);
        _mm512_store_si512(to, _mm512_maskz_loadu_epi16(mask, from + i));
      }
    }
  }

  const AmxAttentionTask& task_;
  int64_t kv_head_, begin_, length_, width_;
};

/// Columns of tiles, 16 queries of a head each, that meet the keys together: the same queries of two
/// heads where there are two, which then see the same keys, and neighbours.
struct QueryBlock {
  struct Column {
    int64_t head, query, rows;  // rows: of 16, those that exist
  };
  Column column[kColumns];
  int64_t columns = 0;
  int64_t first = 0, last = 0;  // keys: whole blocks of 32 from, whole tiles to

  int64_t pairs() const { return (columns + 1) / 2; }
  /// Of `count` keys from `from` on, those that a column sees some of; whole tiles.
  int64_t keys(int64_t c, int64_t from, int64_t count) const {
    return c < columns ? std::clamp<int64_t>(column[c].query + kTileSide - from, 0, count) : 0;
  }
};

/// visit(block) for all queries of an item.
template <typename Visit>
HWY_INLINE void for_query_blocks(const Heads& heads, const Visit& visit) {
  for (int64_t head = heads.first_head(); head < heads.end_head(); head += 2) {
    const int64_t together = std::min<int64_t>(2, heads.end_head() - head);
    for (int64_t q = 0; q < heads.length(); q += kTileSide * kColumns / together) {
      QueryBlock block;
      block.first = heads.first_key(q);
      for (int64_t c = 0; c < kColumns; ++c) {
        const int64_t query = q + c / together * kTileSide;
        if (query >= heads.length()) break;
        block.column[c] = {head + c % together, query,
                           std::min(kTileSide, heads.length() - query)};
        block.columns = c + 1;
        block.last = query + kTileSide;
      }
      visit(block);
    }
  }
}

/// Rows [16 * columns, row_size] as the right operand of products along a row.
void turn_rows(const uint16_t* rows, int64_t columns, int64_t inner, uint16_t* tiles) {
  for (int64_t column = 0; column < columns; ++column) {
    for (int64_t k = 0; k < inner; ++k, tiles += kTileElements) {
      __m512i words[16];
      for (int64_t r = 0; r < kTileSide; ++r) {
        words[r] = _mm512_load_si512(rows + ((column * 16 + r) * inner + k) * kTileInner);
      }
      transpose_pairs(words, tiles);
    }
  }
}

/// Rows [count, row_size], by 32, as the left operand whose rows are their columns.
void turn_columns(const uint16_t* rows, int64_t count, const Heads& heads, uint16_t* tiles) {
  const int64_t blocks = count / kTileInner, size = heads.row_size();
  for (int64_t block = 0; block < blocks; ++block) {
    for (int64_t j = 0; j < heads.dim_tiles(); ++j) {
      __m512i pairs[16];
      const uint16_t* from = rows + block * kTileInner * size + j * kTileSide;
      pair_rows([&](int64_t r) { return from + r * size; }, pairs);
      transpose_pairs(pairs, tiles + (j * blocks + block) * kTileElements);
    }
  }
}

/// Sums [dim_tiles, kColumns tiles of 16 queries] as rows [16 * columns, dim_columns].
void rows_of(const float* sums, int64_t columns, int64_t dim_tiles, float* rows) {
  alignas(64) float tile[kTileSums];
  for (int64_t j = 0; j < dim_tiles; ++j) {
    for (int64_t column = 0; column < columns; ++column) {
      const float* from = sums + (kColumns * j + column) * kTileSums;
      float* to = dim_tiles == 1 ? rows + column * kTileSums : tile;
      __m512i words[16];
      for (int64_t r = 0; r < kTileSide; ++r) words[r] = _mm512_load_si512(from + r * kTileSide);
      transpose_pairs(words, reinterpret_cast<uint16_t*>(to));
      if (dim_tiles == 1) continue;
      for (int64_t r = 0; r < kTileSide; ++r) {
        _mm512_store_ps(rows + ((column * 16 + r) * dim_tiles + j) * kTileSide,
                        _mm512_load_ps(tile + r * kTileSide));
      }
    }
  }
}

/// Of 16 rows and 16 others, both turned, each row's dot product with its partner.
HWY_INLINE __m512 dots(const uint16_t* a, const uint16_t* b, int64_t dim) {
  __m512 sum = _mm512_setzero_ps();
  for (int64_t p = 0; p < dim / 2; ++p) {
    const auto x = reinterpret_cast<__m512bh>(_mm512_load_si512(a + p * kTileInner));
    sum = _mm512_dpbf16_ps(sum, x, reinterpret_cast<__m512bh>(_mm512_load_si512(b + p * kTileInner)));
  }
  return sum;
}

LeftTiles columns_from(const uint16_t* tiles, int64_t blocks, int64_t first_key) {
  return {tiles + first_key / kTileInner * kTileElements, blocks * kTileElements, kTileElements,
          kTileInner};
}

/// A column of 16 queries on its way through the keys.
struct Softmax {
  __m512 top, sum;
};

/// Scores of one column and `count` keys from `first` on become probabilities, as pairs; zeros up
/// to a whole block of 32. Returns by what earlier sums shrink (Milakov & Gimelshein 2018).
HWY_INLINE __m512 softmax_keys(const Heads& heads, int64_t query, int64_t first, int64_t count,
                               float* scores, uint16_t* pairs, Softmax& state) {
  __m512 top = state.top;
  for (int64_t k = 0; k < count; k += kTileSide) {
    float* tile = scores + k * kQueries;
    if (heads.all_visible(query, first + k)) {
      for (int64_t r = 0; r < kTileSums; r += 16) top = _mm512_max_ps(top, _mm512_load_ps(tile + r));
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
  for (int64_t k = count; k % kTileInner != 0; k += 2, pairs += 32) {
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
  AmxWorkspace room(2 * (2 * all * size + all * heads.dim_columns() + 2 * kQueries * size +
                         kKeys * kQueries) +
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
        const __m512 shrink =
            softmax_keys(heads, block.column[c].query, first, block.keys(c, first, count),
                         scores + c * kTileSums, probabilities + c * kKeyTiles * kTileElements,
                         state[c]);
        if (first == block.first) continue;
        for (int64_t i = 0; i < heads.dim_columns(); ++i) {
          float* row = out + ((i / 16 * kColumns + c) * 16 + i % 16) * kTileSide;
          _mm512_store_ps(row, _mm512_mul_ps(_mm512_load_ps(row), shrink));
        }
      }
      product(columns_from(value_columns, blocks, first), {probabilities, kKeyTiles}, dim_tiles,
              block.columns, whole, first > block.first ? out : nullptr, SumTiles::packed(out, kColumns));
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
  float *scores, *d_scores;    // tiles [keys, kColumns]
  uint16_t *p_rows, *ds_rows;  // left tiles [16 keys, 32 queries], kPairs of them for a row of tiles
  uint16_t* ds_pairs;          // right tiles [kColumns, 32 keys]
};

/// One tile of 16 keys, `key` of them before it in the buffers, and two columns from `column` on;
/// those that see none of the keys give zeros.
template <bool kFirst, bool kSecond>
HWY_INLINE void score_gradients(const Heads& heads, const ScoreGradients& g,
                                const QueryBlock& block, int64_t column, int64_t first, int64_t key,
                                const float* lse, const float* delta) {
  constexpr bool kSees[2] = {kFirst, kSecond};
  const int64_t query[2] = {block.column[column].query, kSecond ? block.column[column + 1].query : 0};
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
        ds[k][c] = _mm512_mul_ps(p[k][c], _mm512_sub_ps(_mm512_load_ps(g.d_scores + at),
                                                        _mm512_load_ps(delta + lane)));
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
      __m512i pairs[16];
      const uint16_t* from = rows + t * kTileInner * size + j * kTileSide;
      pair_rows([&](int64_t r) { return from + r * size; }, pairs);
      store_pairs(pairs, tiles + (j * kPairs + t) * kTileElements);
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

void forward_item(const AmxAttentionTask&, int64_t, int64_t) {}
void backward_item(const AmxAttentionTask&, int64_t, int64_t) {}

#endif

}  // namespace
}  // namespace hone::kernels::HWY_NAMESPACE
#if HWY_TARGET == HWY_AVX3
#pragma GCC pop_options
#endif
HWY_AFTER_NAMESPACE();

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
