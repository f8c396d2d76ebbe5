#pragma once

// Tiles of bfloat16 rows in shared memory and the operands of products that warps read from them.
// A row is 8 elements (16 bytes) longer than head_dim: then the eight rows of a matrix that one
// instruction loads lie in different banks, and so do the pieces that a warp copies.

#include <cstdint>

#include "kernels/device/primitives.h"

namespace hone::kernels::cuda {

using TileView = device::SharedView<math::Bfloat16>;

template <int D>
constexpr int kPitch = D + 8;

/// Starts the copies of rows [begin, end) of x (rows of `width` elements apart) to a tile of kRows;
/// zeros behind them, so that nothing multiplied by a probability of 0 is infinite.
template <int D, int kRows, int kThreads, typename Width>
HONE_DEVICE void copy_tile(const math::Bfloat16* x, Width width, int begin, int end,
                           const TileView& tile) {
  constexpr int kVectors = D / 8,
                kStep = kThreads / kVectors;  // rows that all threads copy at once
  static_assert(kThreads % kVectors == 0 && kRows % kStep == 0);
  int row = device::thread_index() / kVectors;
  const int column = device::thread_index() % kVectors * 8;
  const math::Bfloat16* from = x + int64_t{begin + row} * width + column;
  HONE_UNROLL
  for (int i = 0; i < kRows / kStep; ++i) {
    device::copy_async(tile, row * kPitch<D> + column, from, begin + row < end);
    row += kStep;
    from += kStep * width;
  }
}

/// Rows [row, row+16) and columns [column, column+16) of a tile as an operand A.
template <int D>
HONE_DEVICE device::MatrixA rows_operand(const TileView& tile, int row, int column) {
  const int lane = device::lane();
  return device::load_matrices(tile, (row + lane % 16) * kPitch<D> + column + lane / 16 * 8);
}

/// Two operands B of neighbouring columns of a product.
struct TwoOperands {
  device::MatrixB left, right;
};

/// B[k][n] = tile[row + n][column + k]: the rows are the columns of the product, 16 of them.
template <int D>
HONE_DEVICE TwoOperands across_rows(const TileView& tile, int row, int column) {
  const int lane = device::lane();
  const device::MatrixA m = device::load_matrices(
      tile, (row + lane / 16 * 8 + lane % 8) * kPitch<D> + column + lane / 8 % 2 * 8);
  return {{{m.word[0], m.word[1]}}, {{m.word[2], m.word[3]}}};
}

/// B[k][n] = tile[row + k][column + n]: the product sums over the rows; 16 columns.
template <int D>
HONE_DEVICE TwoOperands along_rows(const TileView& tile, int row, int column) {
  const int lane = device::lane();
  const device::MatrixA m = device::load_matrices_transposed(
      tile, (row + lane % 16) * kPitch<D> + column + lane / 16 * 8);
  return {{{m.word[0], m.word[1]}}, {{m.word[2], m.word[3]}}};
}

/// What a lane holds of two neighbouring results is what it must hold of an operand A.
HONE_DEVICE device::MatrixA as_operand(const device::MatrixD& left, const device::MatrixD& right) {
  return {{device::pack_bfloat16(left.value[0], left.value[1]),
           device::pack_bfloat16(left.value[2], left.value[3]),
           device::pack_bfloat16(right.value[0], right.value[1]),
           device::pack_bfloat16(right.value[2], right.value[3])}};
}

/// out[i][n] += rows row + 16i.. of `left` times rows 8n.. of `right`, over the D columns of both.
template <int D, int R, int N>
HONE_DEVICE void multiply_rows(device::MatrixD (&out)[R][N], const TileView& left, int row,
                               const TileView& right) {
  HONE_UNROLL
  for (int column = 0; column < D; column += 16) {
    device::MatrixA rows[R];
    HONE_UNROLL
    for (int i = 0; i < R; ++i) rows[i] = rows_operand<D>(left, row + 16 * i, column);
    HONE_UNROLL
    for (int n = 0; n < N; n += 2) {
      const TwoOperands two = across_rows<D>(right, 8 * n, column);
      HONE_UNROLL
      for (int i = 0; i < R; ++i) {
        device::multiply_add(out[i][n], rows[i], two.left);
        device::multiply_add(out[i][n + 1], rows[i], two.right);
      }
    }
  }
}

/// Puts `value` for pairs of a query (row) and a key (column) that it does not see; `offset` is how
/// far the first query lies behind the first key.
template <int R, int N>
HONE_DEVICE void hide_unseen(device::MatrixD (&x)[R][N], int offset, int window, float value) {
  const int g = device::lane() / 4, t = device::lane() % 4;
  HONE_UNROLL
  for (int i = 0; i < R; ++i) {
    HONE_UNROLL
    for (int n = 0; n < N; ++n) {
      HONE_UNROLL
      for (int e = 0; e < 4; ++e) {
        const int behind = offset + 16 * i + g + e / 2 * 8 - 8 * n - 2 * t - e % 2;
        if (behind < 0 || behind >= window) x[i][n].value[e] = value;
      }
    }
  }
}

/// out[i][c] += `weights` (rounded) times columns 8c.. of the tile, over its 8N rows.
template <int D, int R, int N>
HONE_DEVICE void multiply_weights(device::MatrixD (&out)[R][D / 8],
                                  const device::MatrixD (&weights)[R][N], const TileView& tile) {
  HONE_UNROLL
  for (int n = 0; n < N; n += 2) {
    device::MatrixA operand[R];
    HONE_UNROLL
    for (int i = 0; i < R; ++i) operand[i] = as_operand(weights[i][n], weights[i][n + 1]);
    HONE_UNROLL
    for (int c = 0; c < D / 8; c += 2) {
      const TwoOperands two = along_rows<D>(tile, 8 * n, 8 * c);
      HONE_UNROLL
      for (int i = 0; i < R; ++i) {
        device::multiply_add(out[i][c], operand[i], two.left);
        device::multiply_add(out[i][c + 1], operand[i], two.right);
      }
    }
  }
}

/// Columns `column` and the next of a row of a tile: x and y rounded.
template <int D>
HONE_DEVICE void place_two(const TileView& tile, int row, int column, float x, float y) {
  device::Vector<math::Bfloat16, 2> two;
  math::narrow(x, two[0]);
  math::narrow(y, two[1]);
  device::store_vector(tile, row * kPitch<D> + column, two);
}

/// A warp stores rows [row, row + count) of a tile to rows of `to` that lie `width` elements apart,
/// 16 bytes a lane.
template <int D>
HONE_DEVICE void store_rows(const TileView& tile, int row, int count, math::Bfloat16* to,
                            int64_t width) {
  constexpr int kVectors = D / 8;
  for (int i = device::lane(); i < count * kVectors; i += device::kWarp) {
    const int at = i / kVectors, column = i % kVectors * 8;
    device::store_vector(to, at * width + column,
                         device::load_vector<8>(tile, (row + at) * kPitch<D> + column));
  }
}

}  // namespace hone::kernels::cuda
