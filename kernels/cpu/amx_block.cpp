#include "kernels/cpu/amx_block.h"

#include <c10/util/BFloat16.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/amx_workspace.h"
#include "kernels/cpu/row_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/amx_block.cpp"
#include "kernels/cpu/highway_targets.h"
// After the targets.
#include "hwy/foreach_target.h"
// After foreach_target.
#include "hwy/highway.h"
#include "kernels/cpu/amx_rope-inl.h"
#include "kernels/cpu/amx_tiles-inl.h"
#include "kernels/cpu/swiglu-inl.h"

HONE_BEFORE_AMX();
namespace hone::kernels::HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_AVX3

constexpr int64_t kRows = kBlockRows;
// Rows whose operands are kept for one product that adds to the weights' gradients: the more, the
// less often these sums are read and written; the operands of 256 rows of 64 columns take 0.4 MB.
constexpr int64_t kStepRows = 256, kStepTiles = kStepRows / kRows;

/// 32 rows of a matrix, of which the last may not exist.
template <typename E>
class Staged {
 public:
  /// `room` [32, columns] stands in where fewer than 32 rows are left.
  Staged(E* rows, int64_t count, int64_t columns, std::remove_const_t<E>* room)
      : rows_(rows), size_(count * columns), room_(count < kRows ? room : nullptr) {
    if (!room_) return;
    std::memset(room_, 0, sizeof(E) * static_cast<size_t>(kRows * columns));
    if constexpr (std::is_const_v<E>) std::copy_n(rows_, size_, room_);
  }
  E* get() const { return room_ ? room_ : rows_; }
  /// Writes the rows that exist.
  void finish() const {
    if (room_) std::copy_n(room_, size_, rows_);
  }

 private:
  E* rows_;
  int64_t size_;
  std::remove_const_t<E>* room_;
};

/// visit(first row, rows) for blocks of 32.
template <typename Visit>
void for_blocks(int64_t rows, const Visit& visit) {
  for (int64_t r = 0; r < rows; r += kRows) visit(r, std::min(kRows, rows - r));
}

c10::BFloat16* bfloat16(uint16_t* x) { return reinterpret_cast<c10::BFloat16*>(x); }

/// y [32, width] = norm of the rows that exist, zero in the others.
void norm_rows(const float* x, const float* weight, float eps, int64_t rows, int64_t width,
               uint16_t* y) {
  rms_norm_rows<float, c10::BFloat16>(x, weight, bfloat16(y), rows, width, eps);
  std::fill(y + rows * width, y + kRows * width, uint16_t{0});
}

void round_rows(const float* x, int64_t elements, uint16_t* y) {
  for (int64_t i = 0; i < elements; i += 16) store_rounded(_mm512_loadu_ps(x + i), y + i);
}

/// Rows [32, columns] as one row of a right operand's tiles: tile of column j at to + j * step.
template <typename E>
void to_right_tiles(const E* rows, int64_t columns, uint16_t* to, int64_t step) {
  for (int64_t j = 0; j < columns; j += 16, to += step) {
    to_right_tile(rows + j, columns, to);
  }
}
/// The transpose of rows [32, columns] as one column of a left operand's tiles.
template <typename E>
void to_left_tiles(const E* rows, int64_t columns, uint16_t* to, int64_t step) {
  for (int64_t j = 0; j < columns; j += 16, to += step) {
    to_left_tile(rows + j, columns, to);
  }
}

/// Two rows of 16 float32 to bfloat16: one below the other with `stride`, and as pairs.
HWY_INLINE void store_both(__m512 first, __m512 second, uint16_t* rows, int64_t stride,
                           uint16_t* pairs) {
  const auto both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(second, first));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(rows), _mm512_castsi512_si256(both));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(rows + stride),
                      _mm512_extracti64x4_epi64(both, 1));
  _mm512_store_si512(pairs, interleaved(both));
}

void input_rows(const BlockWeights& w, const BlockRope& rope, const float* x, uint16_t* qkv,
                int64_t rows) {
  const int64_t width = w.shape.width, all = w.shape.qkv();
  AmxWorkspace room(kRows * (2 * width + 4 * all));
  auto* normed = room.take<uint16_t>(kRows * width);
  auto* projected = room.take<float>(kRows * all);
  const RopeRow rope_row(w.shape, rope, false);
  const Tiles tiles;
  for_blocks(rows, [&](int64_t r, int64_t count) {
    norm_rows(x + r * width, w.attention_norm, w.eps, count, width, normed);
    product(LeftTiles::rows(normed, width), {w.qkv.data(), w.qkv.inner()}, 2, all / 16, width / 32,
            nullptr, SumTiles::rows(projected, all));
    for (int64_t i = 0; i < count; ++i) {
      float* row = projected + i * all;
      if (w.qkv_bias) {
        for (int64_t j = 0; j < all; ++j) row[j] += w.qkv_bias[j];
      }
      rope_row.turn(row, rope.positions[r + i]);
    }
    round_rows(projected, count * all, qkv + r * all);
  });
}

void output_rows(const BlockWeights& w, const float* x, const uint16_t* mixed, float* middle,
                 float* out, int64_t rows) {
  const int64_t width = w.shape.width, heads = w.shape.mixed();
  const int64_t columns = 16 * w.shape.gate_tiles();
  AmxWorkspace room(kRows * (14 * width + 2 * heads + 2 * columns) + 4 * 4 * kTileSums);
  auto* normed = room.take<uint16_t>(kRows * width);
  auto* gated = room.take<uint16_t>(kRows * columns);
  auto* sums = room.take<float>(4 * kTileSums);
  auto* x_room = room.take<float>(kRows * width);
  auto* middle_room = room.take<float>(kRows * width);
  auto* out_room = room.take<float>(kRows * width);
  auto* mixed_room = room.take<uint16_t>(kRows * heads);
  const Tiles tiles;
  for_blocks(rows, [&](int64_t r, int64_t count) {
    const Staged<const float> in(x + r * width, count, width, x_room);
    const Staged<const uint16_t> narrow(mixed + r * heads, count, heads, mixed_room);
    const Staged<float> between(middle + r * width, count, width, middle_room);
    const Staged<float> to(out + r * width, count, width, out_room);
    product(LeftTiles::rows(narrow.get(), heads), {w.output.data(), w.output.inner()}, 2,
            width / 16, heads / 32, in.get(), SumTiles::rows(between.get(), width));
    norm_rows(between.get(), w.mlp_norm, w.eps, count, width, normed);
    for (int64_t j = 0; j < columns; j += 16) {
      const uint16_t* panel = w.gate_up.data() + j / 8 * w.gate_up.inner() * kTileElements;
      product(LeftTiles::rows(normed, width), {panel, w.gate_up.inner()}, 2, 2, width / 32, nullptr,
              {sums, kTileSums, 2 * kTileSums, kTileSide});
      const hn::ScalableTag<float> d;
      for (int64_t i = 0; i < kRows; ++i) {
        const auto y =
            swiglu(d, hn::Load(d, sums + i * 16), hn::Load(d, sums + 2 * kTileSums + i * 16));
        store_rounded(y.raw, gated + i * columns + j);
      }
    }
    product(LeftTiles::rows(gated, columns), {w.down.data(), w.down.inner()}, 2, width / 16,
            columns / 32, between.get(), SumTiles::rows(to.get(), width));
    between.finish();
    to.finish();
  });
}

/// Gradients through the gate for 32 rows and two tiles of its columns, from `sums`: gate and up of
/// the first tile, of the second, and d gated of both.
HWY_INLINE void gate_backward(const float* sums, uint16_t* d_rows, int64_t up, int64_t stride,
                              uint16_t* d_gate_pairs, uint16_t* d_up_pairs, uint16_t* gated_pairs,
                              int64_t pair_step) {
  const hn::ScalableTag<float> d;
  for (int64_t t = 0; t < 2; ++t) {
    const float *gate = sums + t * 4 * kTileSums, *grad = sums + (8 + 2 * t) * kTileSums;
    for (int64_t p = 0; p < kTileSide; ++p) {
      const auto of = [&](int64_t row) {
        return swiglu_gradient(d, hn::Load(d, grad + row * 16), hn::Load(d, gate + row * 16),
                               hn::Load(d, gate + 2 * kTileSums + row * 16));
      };
      const auto first = of(2 * p), second = of(2 * p + 1);
      uint16_t* rows = d_rows + 2 * p * stride + t * 16;
      const int64_t at = t * pair_step + p * 32;
      store_both(first.d_gate.raw, second.d_gate.raw, rows, stride, d_gate_pairs + at);
      store_both(first.d_up.raw, second.d_up.raw, rows + up, stride, d_up_pairs + at);
      _mm512_store_si512(gated_pairs + at, pair(first.value.raw, second.value.raw));
    }
  }
}

void output_backward(const BlockWeights& w, const float* d_out, const float* middle,
                     const uint16_t* mixed, float* d_middle, uint16_t* d_mixed, BlockSums& sums,
                     int64_t rows) {
  const int64_t width = w.shape.width, heads = w.shape.mixed();
  const int64_t gate_tiles = w.shape.gate_tiles(), columns = 16 * gate_tiles;
  constexpr int64_t kStep = kStepTiles * kTileElements;  // between tiles of neighbouring columns
  AmxWorkspace room(kStepRows * 2 * (3 * width + 3 * columns + heads) +
                    kRows * (2 * (2 * width + 2 * columns + heads) + 4 * (4 * width + heads)) +
                    12 * 4 * kTileSums);
  // Of all rows of a step, as operands of the weights' gradients.
  auto* d_out_t = room.take<uint16_t>(kStepRows * width);
  auto* normed_t = room.take<uint16_t>(kStepRows * width);
  auto* d_middle_t = room.take<uint16_t>(kStepRows * width);
  auto* gated_pairs = room.take<uint16_t>(kStepRows * columns);
  auto* d_mlp_pairs = room.take<uint16_t>(kStepRows * 2 * columns);
  auto* mixed_pairs = room.take<uint16_t>(kStepRows * heads);
  // Of 32 rows.
  auto* normed = room.take<uint16_t>(kRows * width);
  auto* d_sum = room.take<uint16_t>(kRows * width);
  auto* d_mlp = room.take<uint16_t>(kRows * 2 * columns);
  auto* tile_sums = room.take<float>(12 * kTileSums);
  auto* d_normed = room.take<float>(kRows * width);
  auto* d_out_room = room.take<float>(kRows * width);
  auto* middle_room = room.take<float>(kRows * width);
  auto* d_middle_room = room.take<float>(kRows * width);
  auto* d_attended = room.take<float>(kRows * heads);
  auto* mixed_room = room.take<uint16_t>(kRows * heads);
  const Tiles tiles;
  for (int64_t begin = 0; begin < rows; begin += kStepRows) {
    const int64_t step_rows = std::min(kStepRows, rows - begin);
    for_blocks(step_rows, [&](int64_t in_step, int64_t count) {
      const int64_t r = begin + in_step, place = in_step / kRows * kTileElements;
      const Staged<const float> grad(d_out + r * width, count, width, d_out_room);
      const Staged<const float> x(middle + r * width, count, width, middle_room);
      const Staged<const uint16_t> narrow(mixed + r * heads, count, heads, mixed_room);
      const Staged<float> d_x(d_middle + r * width, count, width, d_middle_room);
      norm_rows(x.get(), w.mlp_norm, w.eps, count, width, normed);
      to_left_tiles(normed, width, normed_t + place, kStep);
      round_rows(grad.get(), kRows * width, d_sum);
      to_left_tiles(d_sum, width, d_out_t + place, kStep);
      for (int64_t j = 0; j < gate_tiles; j += 2) {
        const uint16_t* panel = w.gate_up.data() + 2 * j * w.gate_up.inner() * kTileElements;
        product(LeftTiles::rows(normed, width), {panel, w.gate_up.inner()}, 2, 4, width / 32,
                nullptr, {tile_sums, kTileSums, 2 * kTileSums, kTileSide});
        panel = w.d_gated.data() + j * w.d_gated.inner() * kTileElements;
        product(LeftTiles::rows(d_sum, width), {panel, w.d_gated.inner()}, 2, 2, width / 32,
                nullptr, {tile_sums + 8 * kTileSums, kTileSums, 2 * kTileSums, kTileSide});
        gate_backward(
            tile_sums, d_mlp + j * 16, columns, 2 * columns, d_mlp_pairs + j * kStep + place,
            d_mlp_pairs + (gate_tiles + j) * kStep + place, gated_pairs + j * kStep + place, kStep);
      }
      product(LeftTiles::rows(d_mlp, 2 * columns), {w.d_mlp.data(), w.d_mlp.inner()}, 2, width / 16,
              2 * columns / 32, nullptr, SumTiles::rows(d_normed, width));
      rms_norm_backward_rows<float, c10::BFloat16>(d_normed, x.get(), w.mlp_norm, grad.get(),
                                                   d_x.get(), sums.mlp_norm(), nullptr, count,
                                                   width, w.eps);
      round_rows(d_x.get(), kRows * width, d_sum);
      to_left_tiles(d_sum, width, d_middle_t + place, kStep);
      to_right_tiles(narrow.get(), heads, mixed_pairs + place, kStep);
      product(LeftTiles::rows(d_sum, width), {w.d_attended.data(), w.d_attended.inner()}, 2,
              heads / 16, width / 32, nullptr, SumTiles::rows(d_attended, heads));
      round_rows(d_attended, count * heads, d_mixed + r * heads);
      d_x.finish();
    });
    const int64_t inner = (step_rows + kRows - 1) / kRows;
    const auto add = [&](const uint16_t* left, const uint16_t* right, int64_t column_tiles,
                         float* to) {
      product(LeftTiles::packed(left, kStepTiles), {right, kStepTiles}, width / 16, column_tiles,
              inner, to, SumTiles::packed(to, column_tiles));
    };
    add(d_out_t, gated_pairs, gate_tiles, sums.down());
    add(normed_t, d_mlp_pairs, 2 * gate_tiles, sums.gate_up());
    add(d_middle_t, mixed_pairs, heads / 16, sums.output());
  }
}

void input_backward(const BlockWeights& w, const BlockRope& rope, const float* d_qkv,
                    const float* x, const float* d_middle, float* d_x, BlockSums& sums,
                    int64_t rows) {
  const int64_t width = w.shape.width, all = w.shape.qkv();
  constexpr int64_t kStep = kStepTiles * kTileElements;
  AmxWorkspace room(kStepRows * 2 * (width + all) + kRows * (2 * (width + all) + 4 * width) +
                    4 * all);
  auto* normed_t = room.take<uint16_t>(kStepRows * width);
  auto* d_qkv_pairs = room.take<uint16_t>(kStepRows * all);
  auto* normed = room.take<uint16_t>(kRows * width);
  auto* d_projected = room.take<uint16_t>(kRows * all);
  auto* d_normed = room.take<float>(kRows * width);
  auto* d_row = room.take<float>(all);
  const RopeRow rope_row(w.shape, rope, true);
  const Tiles tiles;
  for (int64_t begin = 0; begin < rows; begin += kStepRows) {
    const int64_t step_rows = std::min(kStepRows, rows - begin);
    for_blocks(step_rows, [&](int64_t in_step, int64_t count) {
      const int64_t r = begin + in_step, place = in_step / kRows * kTileElements;
      for (int64_t i = 0; i < count; ++i) {
        std::copy_n(d_qkv + (r + i) * all, all, d_row);
        rope_row.turn(d_row, rope.positions[r + i]);
        round_rows(d_row, all, d_projected + i * all);
        if (w.qkv_bias) {
          for (int64_t j = 0; j < all; ++j) sums.qkv_bias()[j] += d_row[j];
        }
      }
      std::fill(d_projected + count * all, d_projected + kRows * all, uint16_t{0});
      to_right_tiles(d_projected, all, d_qkv_pairs + place, kStep);
      product(LeftTiles::rows(d_projected, all), {w.d_normed.data(), w.d_normed.inner()}, 2,
              width / 16, all / 32, nullptr, SumTiles::rows(d_normed, width));
      rms_norm_backward_rows<float, c10::BFloat16>(
          d_normed, x + r * width, w.attention_norm, d_middle + r * width, d_x + r * width,
          sums.attention_norm(), bfloat16(normed), count, width, w.eps);
      std::fill(normed + count * width, normed + kRows * width, uint16_t{0});
      to_left_tiles(normed, width, normed_t + place, kStep);
    });
    product(LeftTiles::packed(normed_t, kStepTiles), {d_qkv_pairs, kStepTiles}, width / 16,
            all / 16, (step_rows + kRows - 1) / kRows, sums.qkv(),
            SumTiles::packed(sums.qkv(), all / 16));
  }
}

#else  // callers asked amx_usable(), which implies AVX-512

void input_rows(const BlockWeights&, const BlockRope&, const float*, uint16_t*, int64_t) {
  no_matrix_unit();
}
void output_rows(const BlockWeights&, const float*, const uint16_t*, float*, float*, int64_t) {
  no_matrix_unit();
}
void output_backward(const BlockWeights&, const float*, const float*, const uint16_t*, float*,
                     uint16_t*, BlockSums&, int64_t) {
  no_matrix_unit();
}
void input_backward(const BlockWeights&, const BlockRope&, const float*, const float*, const float*,
                    float*, BlockSums&, int64_t) {
  no_matrix_unit();
}

#endif

}  // namespace
}  // namespace hone::kernels::HWY_NAMESPACE
HONE_AFTER_AMX();

#if HWY_ONCE

namespace hone::kernels {

HWY_EXPORT(input_rows);
HWY_EXPORT(output_rows);
HWY_EXPORT(output_backward);
HWY_EXPORT(input_backward);

void block_input_rows(const BlockWeights& weights, const BlockRope& rope, const float* x,
                      uint16_t* qkv, int64_t rows) {
  HWY_DYNAMIC_DISPATCH(input_rows)(weights, rope, x, qkv, rows);
}

void block_output_rows(const BlockWeights& weights, const float* x, const uint16_t* mixed,
                       float* middle, float* out, int64_t rows) {
  HWY_DYNAMIC_DISPATCH(output_rows)(weights, x, mixed, middle, out, rows);
}

void block_output_backward_rows(const BlockWeights& weights, const float* d_out,
                                const float* middle, const uint16_t* mixed, float* d_middle,
                                uint16_t* d_mixed, BlockSums& sums, int64_t rows) {
  HWY_DYNAMIC_DISPATCH(output_backward)
  (weights, d_out, middle, mixed, d_middle, d_mixed, sums, rows);
}

void block_input_backward_rows(const BlockWeights& weights, const BlockRope& rope,
                               const float* d_qkv, const float* x, const float* d_middle,
                               float* d_x, BlockSums& sums, int64_t rows) {
  HWY_DYNAMIC_DISPATCH(input_backward)(weights, rope, d_qkv, x, d_middle, d_x, sums, rows);
}

}  // namespace hone::kernels

#endif  // HWY_ONCE
