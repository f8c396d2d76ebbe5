#pragma once

// What the two halves of attention's backward share: attention_queries_backward.cu makes the
// gradients of the queries, attention_keys_backward.cu those of keys and values.

#include <cmath>
#include <cstdint>

#include "kernels/cuda/attention_setup.cuh"
#include "kernels/cuda/attention_tiles.cuh"
#include "kernels/cuda/softmax_sums.cuh"

namespace hone::kernels::cuda {

constexpr int kGradientRows = 128;  // rows a tile: a multiple of what either kernel's block takes

/// Of every row of every tile, for each head, tile by tile, so that 16 bytes are always aligned. A
/// row that a sequence does not have has a probability of 0 for every key: its log_sum is infinite.
struct RowStatistics {
  float* log_sum;  // [heads, tiles, kGradientRows] log2 of the sum of 2^(scale * log2(e) * score)
  float* delta;    // likewise, the sum over the row of gradient * output
  int64_t stride;  // of a head: tiles * kGradientRows
};

struct Gradients {
  AttentionBackwardArgs args;
  Prepared prepared;  // queries, then keys
  RowStatistics rows;
};

cudaError_t launch_queries_backward(const Gradients& g, cudaStream_t stream);
cudaError_t launch_keys_backward(const Gradients& g, cudaStream_t stream);

/// A warp's gradients of rotated rows (rows row + 16i.. of a tile; positions from `position` on)
/// times scale, turned back and rounded, into its rows of the tile.
template <int D, int R>
HONE_DEVICE void place_turned_back(const AttentionArgs& a, const device::MatrixD (&x)[R][D / 8],
                                   float scale, int position, int length, const TileView& tile,
                                   int row) {
  constexpr int kHalf = D / 2;
  const int g = device::lane() / 4, t = device::lane() % 4;
  HONE_UNROLL
  for (int r = 0; r < 2 * R; ++r) {
    // Angles of rows behind the sequence may not exist; their results are not stored.
    const int64_t at = int64_t{std::min(position + 8 * r + g, length - 1)} * kHalf + 2 * t;
    HONE_UNROLL
    for (int c = 0; c < kHalf / 8; ++c) {
      const auto cosine = device::load_vector<2>(a.cos, at + 8 * c);
      const auto sine = device::load_vector<2>(a.sin, at + 8 * c);
      float first[2], second[2];
      HONE_UNROLL
      for (int e = 0; e < 2; ++e) {
        first[e] = x[r / 2][c].value[r % 2 * 2 + e] * scale;
        second[e] = x[r / 2][c + kHalf / 8].value[r % 2 * 2 + e] * scale;
        math::rope_rotate_back(first[e], second[e], cosine[e], sine[e]);
      }
      place_two<D>(tile, row + 8 * r + g, 8 * c + 2 * t, first[0], first[1]);
      place_two<D>(tile, row + 8 * r + g, 8 * c + 2 * t + kHalf, second[0], second[1]);
    }
  }
}

}  // namespace hone::kernels::cuda
