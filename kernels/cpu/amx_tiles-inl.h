// Products of bfloat16 matrices in the matrix unit, from operands that lie in tiles. Compiled for
// AVX-512 only (Highway's per-target include guard); callers ask amx_usable() first.
//
// A tile register holds 16 rows of 64 bytes: 16 x 32 bfloat16 of a left operand, 16 x 16 pairs of a
// right one (rows 2p and 2p+1 of a column lie side by side), 16 x 16 float32 of sums. One
// instruction adds the 16 x 16 x 32 product of two of them to a third in 16 cycles; loading a tile
// takes 8 cycles when it lies in whole cache lines and twice that otherwise, so everything here is
// aligned to 64 bytes.

#if defined(HONE_KERNELS_CPU_AMX_TILES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HONE_KERNELS_CPU_AMX_TILES_INL_H_
#undef HONE_KERNELS_CPU_AMX_TILES_INL_H_
#else
#define HONE_KERNELS_CPU_AMX_TILES_INL_H_
#endif

#include <cstdint>
#include <type_traits>

#include "hwy/highway.h"

// Around a namespace: Highway's own, and where the target is AVX-512 the matrix unit's
// instructions.
#undef HONE_BEFORE_AMX
#undef HONE_AFTER_AMX
#if HWY_TARGET == HWY_AVX3
#define HONE_BEFORE_AMX()                                \
  HWY_BEFORE_NAMESPACE();                                \
  HWY_PRAGMA(GCC push_options)                           \
  HWY_PRAGMA(GCC target("avx512bf16,amx-tile,amx-bf16")) \
  static_assert(true, "a semicolon may follow")
#define HONE_AFTER_AMX()      \
  HWY_PRAGMA(GCC pop_options) \
  HWY_AFTER_NAMESPACE()
#else
#define HONE_BEFORE_AMX() HWY_BEFORE_NAMESPACE()
#define HONE_AFTER_AMX() HWY_AFTER_NAMESPACE()
#endif

#if HWY_TARGET == HWY_AVX3
#include <immintrin.h>

HONE_BEFORE_AMX();
namespace hone::kernels::HWY_NAMESPACE {

constexpr int64_t kTileSide = 16;              // rows of a tile; columns of sums
constexpr int64_t kTileInner = 32;             // of a product's inner index
constexpr int64_t kTileElements = 16 * 32;     // bfloat16 of an operand's tile
constexpr int64_t kTileSums = 16 * 16;         // float32 of a tile of sums
constexpr int64_t kBlockRows = 2 * kTileSide;  // rows that pass through a block together

/// The tile registers of this thread while this lives. Between two of them the thread's state has
/// none to save, and MKL may set them up in its own way.
class Tiles {
 public:
  Tiles() {
    // Static and of unknown contents, because the compiler believes that the instruction reads 8
    // bytes only: the rest of one on the stack was optimised away.
    struct alignas(64) Config {
      uint8_t palette, start_row, reserved[14];
      uint16_t row_bytes[16];
      uint8_t rows[16];
    };
    static constexpr Config kWholeTiles = {
        1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    const void* config = &kWholeTiles;
    asm volatile("" : "+r"(config) : : "memory");
    _tile_loadconfig(config);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

/// Left operand: tile (row, inner) begins at data + row * row_step + inner * inner_step, its rows
/// `stride` elements apart.
struct LeftTiles {
  const uint16_t* data;
  int64_t row_step, inner_step, stride;

  /// Of a matrix whose rows lie `stride` elements apart.
  static LeftTiles rows(const uint16_t* data, int64_t stride) {
    return {data, kTileSide * stride, kTileInner, stride};
  }
  /// Of whole tiles one after the other, `inner` for each row of tiles.
  static LeftTiles packed(const uint16_t* data, int64_t inner) {
    return {data, inner * kTileElements, kTileElements, kTileInner};
  }
};

/// Right operand: `inner` whole tiles for each column of tiles.
struct RightTiles {
  const uint16_t* data;
  int64_t inner;
};

/// Sums: tile (row, column) begins at data + row * row_step + column * column_step.
struct SumTiles {
  float* data;
  int64_t row_step, column_step, stride;

  static SumTiles rows(float* data, int64_t stride) {
    return {data, kTileSide * stride, kTileSide, stride};
  }
  static SumTiles packed(float* data, int64_t columns) {
    return {data, columns * kTileSums, kTileSums, kTileSide};
  }
};

/// out = from + left right for kRows x kColumns tiles; `from` may be null (zero).
template <int kRows, int kColumns>
HWY_INLINE void product_of_tiles(const LeftTiles& left, const RightTiles& right, int64_t inner,
                                 const float* from, float* out, const SumTiles& at) {
  const int64_t bytes = at.stride * 4, left_bytes = left.stride * 2;
  const float* corner = from + at.row_step;
  if (from) {
    _tile_loadd(0, from, bytes);
    if constexpr (kColumns == 2) _tile_loadd(1, from + at.column_step, bytes);
    if constexpr (kRows == 2) _tile_loadd(2, corner, bytes);
    if constexpr (kRows == 2 && kColumns == 2) _tile_loadd(3, corner + at.column_step, bytes);
  } else {
    _tile_zero(0);
    if constexpr (kColumns == 2) _tile_zero(1);
    if constexpr (kRows == 2) _tile_zero(2);
    if constexpr (kRows == 2 && kColumns == 2) _tile_zero(3);
  }
  const uint16_t *a = left.data, *b = right.data;
  for (int64_t k = 0; k < inner; ++k, a += left.inner_step, b += kTileElements) {
    _tile_loadd(4, a, left_bytes);
    _tile_loadd(6, b, 64);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kColumns == 2) {
      _tile_loadd(7, b + right.inner * kTileElements, 64);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kRows == 2) {
      _tile_loadd(5, a + left.row_step, left_bytes);
      _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (kRows == 2 && kColumns == 2) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, out, bytes);
  if constexpr (kColumns == 2) _tile_stored(1, out + at.column_step, bytes);
  if constexpr (kRows == 2) _tile_stored(2, out + at.row_step, bytes);
  if constexpr (kRows == 2 && kColumns == 2) {
    _tile_stored(3, out + at.row_step + at.column_step, bytes);
  }
}

/// out = from + left right, [16 rows, 16 columns], by `inner` tiles of the inner index. `from` has
/// the layout of `out`, may be the same memory, and may be null (zero).
inline void product(const LeftTiles& left, const RightTiles& right, int64_t rows, int64_t columns,
                    int64_t inner, const float* from, const SumTiles& out) {
  // The compiler does not know that the loads of tiles read memory.
  asm volatile("" ::: "memory");
  for (int64_t j = 0; j < columns; j += 2) {
    const RightTiles b{right.data + j * right.inner * kTileElements, right.inner};
    for (int64_t i = 0; i < rows; i += 2) {
      const LeftTiles a{left.data + i * left.row_step, left.row_step, left.inner_step, left.stride};
      const int64_t offset = i * out.row_step + j * out.column_step;
      const float* sums = from ? from + offset : nullptr;
      float* to = out.data + offset;
      const bool two_rows = i + 1 < rows, two_columns = j + 1 < columns;
      if (two_rows && two_columns) {
        product_of_tiles<2, 2>(a, b, inner, sums, to, out);
      } else if (two_rows) {
        product_of_tiles<2, 1>(a, b, inner, sums, to, out);
      } else if (two_columns) {
        product_of_tiles<1, 2>(a, b, inner, sums, to, out);
      } else {
        product_of_tiles<1, 1>(a, b, inner, sums, to, out);
      }
    }
  }
}

/// The first n of 16 lanes.
HWY_INLINE __mmask16 lanes(int64_t n) {
  return n >= 16 ? 0xFFFF : static_cast<__mmask16>(n <= 0 ? 0U : (1U << n) - 1U);
}

/// 16 elements and 16 more as pairs {i, 16 + i}.
HWY_INLINE __m512i interleaved(__m512i both) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                         8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, both);
}
/// Two rows of 16 float32 as 16 pairs {first, second} of bfloat16, rounded to nearest even.
HWY_INLINE __m512i pair(__m512 first, __m512 second) {
  return interleaved(reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first)));
}
/// The same of two rows that are bfloat16 already.
HWY_INLINE __m512i pair(const uint16_t* first, const uint16_t* second) {
  const auto wide = [](const uint16_t* row) {
    return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row)));
  };
  return _mm512_or_si512(wide(first), _mm512_slli_epi32(wide(second), 16));
}

/// 16 float32 to 16 bfloat16.
HWY_INLINE void store_rounded(__m512 x, uint16_t* to) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                      reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)));
}

/// The 16 pairs of one right tile turned into the left tile of the transposed matrix.
HWY_INLINE void transpose_pairs(const __m512i* pairs, uint16_t* tile) {
  __m512i a[16], b[16];
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_epi32(pairs[i], pairs[i + 1]);
    a[i + 1] = _mm512_unpackhi_epi32(pairs[i], pairs[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
    b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
    b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
    b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
  }
  // Now b[4g + c], 128-bit lane l, holds column 4l + c of rows 4g..4g+3.
  for (int c = 0; c < 4; ++c) {
    const __m512i low01 = _mm512_shuffle_i32x4(b[c], b[4 + c], 0x88);
    const __m512i high01 = _mm512_shuffle_i32x4(b[c], b[4 + c], 0xdd);
    const __m512i low23 = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0x88);
    const __m512i high23 = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0xdd);
    // low: lanes 0 and 2 of two groups; high: lanes 1 and 3.
    _mm512_store_si512(tile + (0 + c) * 32, _mm512_shuffle_i32x4(low01, low23, 0x88));
    _mm512_store_si512(tile + (8 + c) * 32, _mm512_shuffle_i32x4(low01, low23, 0xdd));
    _mm512_store_si512(tile + (4 + c) * 32, _mm512_shuffle_i32x4(high01, high23, 0x88));
    _mm512_store_si512(tile + (12 + c) * 32, _mm512_shuffle_i32x4(high01, high23, 0xdd));
  }
}

/// 32 rows x 16 columns as the 16 pairs of a right tile; Row(r) gives where row r begins.
template <typename Rows>
HWY_INLINE void pair_rows(const Rows& row, __m512i* pairs) {
  for (int p = 0; p < 16; ++p) {
    if constexpr (std::is_same_v<decltype(row(0)), const float*>) {
      pairs[p] = pair(_mm512_loadu_ps(row(2 * p)), _mm512_loadu_ps(row(2 * p + 1)));
    } else {
      pairs[p] = pair(row(2 * p), row(2 * p + 1));
    }
  }
}

/// 32 rows x 16 columns, rows `stride` apart, as one tile of a right operand.
template <typename E>
HWY_INLINE void to_right_tile(const E* rows, int64_t stride, uint16_t* tile) {
  __m512i pairs[16];
  pair_rows([&](int64_t r) { return rows + r * stride; }, pairs);
  for (int p = 0; p < 16; ++p) _mm512_store_si512(tile + p * 32, pairs[p]);
}
/// Their transpose as one tile of a left operand.
template <typename E>
HWY_INLINE void to_left_tile(const E* rows, int64_t stride, uint16_t* tile) {
  __m512i pairs[16];
  pair_rows([&](int64_t r) { return rows + r * stride; }, pairs);
  transpose_pairs(pairs, tile);
}

/// The transpose of one tile of sums.
HWY_INLINE void transpose_sums(const float* sums, float* to) {
  __m512i words[16];
  for (int64_t r = 0; r < kTileSide; ++r) words[r] = _mm512_load_si512(sums + r * kTileSide);
  transpose_pairs(words, reinterpret_cast<uint16_t*>(to));
}

}  // namespace hone::kernels::HWY_NAMESPACE
HONE_AFTER_AMX();

#endif  // HWY_TARGET == HWY_AVX3

#endif  // per-target include guard
