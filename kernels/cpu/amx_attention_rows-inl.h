// Rows of heads as operands of the matrix unit, and which queries meet which keys together, for
// amx_attention.cpp. Compiled for AVX-512 only (Highway's per-target include guard).

#if defined(HONE_KERNELS_CPU_AMX_ATTENTION_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HONE_KERNELS_CPU_AMX_ATTENTION_ROWS_INL_H_
#undef HONE_KERNELS_CPU_AMX_ATTENTION_ROWS_INL_H_
#else
#define HONE_KERNELS_CPU_AMX_ATTENTION_ROWS_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/amx_attention.h"
#include "kernels/cpu/amx_tiles-inl.h"

#if HWY_TARGET == HWY_AVX3

HONE_BEFORE_AMX();
namespace hone::kernels::HWY_NAMESPACE {

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

/// Columns of tiles, 16 queries of a head each, that meet the keys together: the same queries of
/// two heads where there are two, which then see the same keys, and neighbours.
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
        block.column[c] = {head + c % together, query, std::min(kTileSide, heads.length() - query)};
        block.columns = c + 1;
        block.last = query + kTileSide;
      }
      visit(block);
    }
  }
}

/// Rows [16 * columns, row_size] as the right operand of products along a row.
inline void turn_rows(const uint16_t* rows, int64_t columns, int64_t inner, uint16_t* tiles) {
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
inline void turn_columns(const uint16_t* rows, int64_t count, const Heads& heads, uint16_t* tiles) {
  const int64_t blocks = count / kTileInner, size = heads.row_size();
  for (int64_t block = 0; block < blocks; ++block) {
    for (int64_t j = 0; j < heads.dim_tiles(); ++j) {
      to_left_tile(rows + block * kTileInner * size + j * kTileSide, size,
                   tiles + (j * blocks + block) * kTileElements);
    }
  }
}

/// Sums [dim_tiles, kColumns tiles of 16 queries] as rows [16 * columns, dim_columns].
inline void rows_of(const float* sums, int64_t columns, int64_t dim_tiles, float* rows) {
  alignas(64) float tile[kTileSums];
  for (int64_t j = 0; j < dim_tiles; ++j) {
    for (int64_t column = 0; column < columns; ++column) {
      const float* from = sums + (kColumns * j + column) * kTileSums;
      float* to = dim_tiles == 1 ? rows + column * kTileSums : tile;
      transpose_sums(from, to);
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
    sum =
        _mm512_dpbf16_ps(sum, x, reinterpret_cast<__m512bh>(_mm512_load_si512(b + p * kTileInner)));
  }
  return sum;
}

inline LeftTiles columns_from(const uint16_t* tiles, int64_t blocks, int64_t first_key) {
  return {tiles + first_key / kTileInner * kTileElements, blocks * kTileElements, kTileElements,
          kTileInner};
}

}  // namespace hone::kernels::HWY_NAMESPACE
HONE_AFTER_AMX();

#endif  // HWY_TARGET == HWY_AVX3

#endif  // per-target include guard
