// How weights become tiles for the matrix unit, and tiles of sums weights' gradients.

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/amx_block.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/amx_panels.cpp"
#include "kernels/cpu/highway_targets.h"
// After the targets.
#include "hwy/foreach_target.h"
// After foreach_target.
#include "hwy/highway.h"
#include "kernels/cpu/amx_tiles-inl.h"

HONE_BEFORE_AMX();
namespace hone::kernels::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX3

/// 32 x 16 of the right operand from a matrix [columns, inner] of which `inner` and `columns` are
/// left, to one tile.
void put_transposed(const float* matrix, int64_t stride, int64_t inner, int64_t columns,
                    uint16_t* tile) {
  __m512i pairs[16];
  for (int64_t c = 0; c < kTileSide; ++c) {
    const float* row = matrix + c * stride;
    const int64_t here = c < columns ? inner : 0;
    pairs[c] = reinterpret_cast<__m512i>(
        _mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(lanes(here - 16), row + 16),
                            _mm512_maskz_loadu_ps(lanes(here), row)));
  }
  transpose_pairs(pairs, tile);
}
/// The same from a matrix [inner, columns].
void put_plain(const float* matrix, int64_t stride, int64_t inner, int64_t columns,
               uint16_t* tile) {
  const auto row = [&](int64_t k) {
    return _mm512_maskz_loadu_ps(k < inner ? lanes(columns) : lanes(0), matrix + k * stride);
  };
  for (int64_t p = 0; p < kTileSide; ++p) {
    _mm512_store_si512(tile + p * kTileInner, pair(row(2 * p), row(2 * p + 1)));
  }
}

/// Sums [16, 16] to rows of a matrix, or to its columns.
void take_tile(const float* sums, bool transposed, float* to, int64_t stride, int64_t columns) {
  alignas(64) float turned[kTileSums];
  if (transposed) {
    transpose_sums(sums, turned);
    for (int64_t c = 0; c < std::min(columns, kTileSide); ++c) {
      _mm512_storeu_ps(to + c * stride, _mm512_load_ps(turned + c * kTileSide));
    }
    return;
  }
  for (int64_t r = 0; r < kTileSide; ++r) {
    _mm512_mask_storeu_ps(to + r * stride, lanes(columns), _mm512_load_ps(sums + r * kTileSide));
  }
}

#else  // callers asked amx_usable(), which implies AVX-512

void put_transposed(const float*, int64_t, int64_t, int64_t, uint16_t*) { no_matrix_unit(); }
void put_plain(const float*, int64_t, int64_t, int64_t, uint16_t*) { no_matrix_unit(); }
void take_tile(const float*, bool, float*, int64_t, int64_t) { no_matrix_unit(); }

#endif

}  // namespace
}  // namespace hone::kernels::HWY_NAMESPACE
HONE_AFTER_AMX();

#if HWY_ONCE

namespace hone::kernels {

HWY_EXPORT(put_transposed);
HWY_EXPORT(put_plain);
HWY_EXPORT(take_tile);

namespace {
constexpr int64_t kSide = 16, kInner = 32, kTile = kSide * kInner, kSums = kSide * kSide;
}  // namespace

void RightPanel::put(const float* matrix, bool transposed, int64_t inner, int64_t columns,
                     int64_t first_inner, int64_t first_column, int64_t column_step) {
  for (int64_t j = 0; j < columns; j += kSide) {
    uint16_t* tile = lines_.front().elements +
                     ((first_column + j / kSide * column_step) * inner_ + first_inner) * kTile;
    for (int64_t k = 0; k < inner; k += kInner, tile += kTile) {
      if (transposed) {
        HWY_DYNAMIC_DISPATCH(put_transposed)
        (matrix + j * inner + k, inner, inner - k, columns - j, tile);
      } else {
        HWY_DYNAMIC_DISPATCH(put_plain)
        (matrix + k * columns + j, columns, inner - k, columns - j, tile);
      }
    }
  }
}

void BlockWeights::pack_gate_up(const float* matrix) {
  gate_up = RightPanel(shape.width / kInner, 2 * shape.gate_tiles());
  gate_up.put(matrix, true, shape.width, shape.gate, 0, 0, 2);
  gate_up.put(matrix + shape.gate * shape.width, true, shape.width, shape.gate, 0, 1, 2);
}

void BlockWeights::pack_forward(const BlockMatrices& matrices) {
  const int64_t width = shape.width, mixed = shape.mixed();
  qkv = RightPanel(width / kInner, shape.qkv() / kSide);
  qkv.put(matrices.qkv, true, width, shape.qkv());
  output = RightPanel(mixed / kInner, width / kSide);
  output.put(matrices.output, true, mixed, width);
  pack_gate_up(matrices.gate_up);
  down = RightPanel(shape.gate_tiles() / 2, width / kSide);
  down.put(matrices.down, true, shape.gate, width);
}

void BlockWeights::pack_backward(const BlockMatrices& matrices) {
  const int64_t width = shape.width, mixed = shape.mixed(), gate = shape.gate;
  const int64_t tiles = shape.gate_tiles();
  d_normed = RightPanel(shape.qkv() / kInner, width / kSide);
  d_normed.put(matrices.qkv, false, shape.qkv(), width);
  d_attended = RightPanel(width / kInner, mixed / kSide);
  d_attended.put(matrices.output, false, width, mixed);
  pack_gate_up(matrices.gate_up);
  d_mlp = RightPanel(tiles, width / kSide);
  d_mlp.put(matrices.gate_up, false, gate, width);
  d_mlp.put(matrices.gate_up + gate * width, false, gate, width, tiles / 2);
  d_gated = RightPanel(width / kInner, tiles);
  d_gated.put(matrices.down, false, width, gate);
}

BlockSums::BlockSums(const BlockShape& shape) {
  const int64_t width = shape.width, gate = shape.gate_tiles() * kSide;
  int64_t end = 0, part = 0;
  for (const int64_t elements : {width * shape.qkv(), width * shape.mixed(), width * 2 * gate,
                                 width * gate, width, width, shape.qkv()}) {
    offsets_[part++] = end;
    end += elements;
  }
  offsets_[part] = end;
  lines_.resize(static_cast<size_t>((end + 15) / 16));
}

void BlockSums::add(const BlockSums& other) {
  float* to = at(0);
  const float* from = other.at(0);
  for (int64_t i = 0; i < offsets_[7]; ++i) to[i] += from[i];
}

void BlockSums::unpack(const BlockShape& shape, float* qkv, float* output, float* gate_up,
                       float* down) const {
  const int64_t width = shape.width, tiles = shape.gate_tiles(), gate = shape.gate;
  // [width, columns] from column `first` of `all` columns of tiles, or its transpose.
  const auto take = [&](int part, int64_t all, int64_t first, int64_t columns, bool transposed,
                        float* to) {
    const int64_t stride = transposed ? width : columns;
    for (int64_t i = 0; i < width; i += kSide) {
      for (int64_t j = 0; j < columns; j += kSide) {
        HWY_DYNAMIC_DISPATCH(take_tile)
        (at(part) + (i / kSide * all + first + j / kSide) * kSums, transposed,
         to + (transposed ? j * stride + i : i * stride + j), stride, columns - j);
      }
    }
  };
  take(0, shape.qkv() / kSide, 0, shape.qkv(), true, qkv);
  take(1, shape.mixed() / kSide, 0, shape.mixed(), false, output);
  take(2, 2 * tiles, 0, gate, true, gate_up);
  take(2, 2 * tiles, tiles, gate, true, gate_up + gate * width);
  take(3, tiles, 0, gate, false, down);
}

}  // namespace hone::kernels

#endif  // HWY_ONCE
