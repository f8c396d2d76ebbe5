#pragma once

// The passes of a transformer block whose matrix products run in the cores' matrix unit, for 32
// rows at a time: what one product leaves is normed, gated and rounded for the next while it lies
// in the first-level cache. Each call is single-threaded; callers split rows over threads and ask
// amx_usable() first.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cpu/amx_workspace.h"

namespace hone::kernels {

struct BlockShape {
  int64_t width, gate;  // columns of x, of the gate
  int64_t heads, kv_heads, head_dim;

  int64_t mixed() const { return heads * head_dim; }
  int64_t qkv() const { return (heads + 2 * kv_heads) * head_dim; }
  /// Tiles of 16 columns that hold the gate, whole pairs of them: zeros fill the last.
  int64_t gate_tiles() const { return (gate + 31) / 32 * 2; }
  int64_t weight_elements() const { return width * (qkv() + mixed() + 3 * gate); }
  /// Whole tiles but for the gate; heads whose rotation is one of vectors; and weights that the
  /// caches hold: beyond a width of some 800 MKL's own blocking of all rows is faster.
  bool suits_tiles() const {
    constexpr int64_t kMostElements = 1 << 22;
    const bool dim = head_dim == 8 || head_dim == 16 || (head_dim % 32 == 0 && head_dim <= 128);
    return dim && width % 32 == 0 && qkv() % 32 == 0 && mixed() % 32 == 0 &&
           kv_heads * head_dim % 16 == 0 && weight_elements() > 0 &&
           weight_elements() <= kMostElements;
  }
};

/// Rotary positions of some rows.
struct BlockRope {
  const float *cos, *sin;    // [P,head_dim/2]
  const int64_t* positions;  // of each row
  float query_scale, key_scale;
};

/// A right operand in tiles (cpu/amx_tiles-inl.h), zero where the matrix does not reach.
class RightPanel {
 public:
  RightPanel() = default;
  RightPanel(int64_t inner_tiles, int64_t column_tiles)
      : lines_(static_cast<size_t>(inner_tiles * column_tiles * 16)), inner_(inner_tiles) {}

  /// Puts the matrix [inner, columns], or with `transposed` the transpose of the matrix [columns,
  /// inner], rounded to bfloat16, where tile (first_inner, first_column) begins; its columns of
  /// tiles lie `column_step` apart.
  void put(const float* matrix, bool transposed, int64_t inner, int64_t columns,
           int64_t first_inner = 0, int64_t first_column = 0, int64_t column_step = 1);
  const uint16_t* data() const { return lines_.front().elements; }
  int64_t inner() const { return inner_; }

 private:
  std::vector<CacheLine> lines_;
  int64_t inner_ = 0;
};

/// Matrices, rows by outputs.
struct BlockMatrices {
  const float *qkv, *output, *gate_up, *down;
};

/// Weights as the passes read them.
struct BlockWeights {
  BlockShape shape;
  const float *attention_norm, *mlp_norm;
  const float* qkv_bias;  // null = none
  float eps;
  // y = x W^T
  RightPanel qkv, output, gate_up, down;  // gate_up: a tile of gates, then its tile of ups
  // d x = d y W
  RightPanel d_normed, d_attended, d_mlp, d_gated;  // d_mlp: gates, then ups

  /// Panels that forward (or backward) passes read.
  void pack_forward(const BlockMatrices& matrices);
  void pack_backward(const BlockMatrices& matrices);

 private:
  void pack_gate_up(const float* matrix);
};

/// Gradients of the weights from the rows of one thread, as tiles of sums: of the transposes of qkv
/// and gate_up (gates, then ups), of output and down as they are.
class BlockSums {
 public:
  explicit BlockSums(const BlockShape& shape);

  float* qkv() { return at(0); }
  float* output() { return at(1); }
  float* gate_up() { return at(2); }
  float* down() { return at(3); }
  float* attention_norm() { return at(4); }
  float* mlp_norm() { return at(5); }
  float* qkv_bias() { return at(6); }
  /// Adds to this, element by element.
  void add(const BlockSums& other);
  /// To the matrices' own layout.
  void unpack(const BlockShape& shape, float* qkv, float* output, float* gate_up,
              float* down) const;

 private:
  float* at(int part) { return reinterpret_cast<float*>(lines_.data()) + offsets_[part]; }
  const float* at(int part) const { return const_cast<BlockSums*>(this)->at(part); }

  int64_t offsets_[8];
  std::vector<CacheLine> lines_;
};

/// Of x [rows, width]: queries and keys, turned to their positions and scaled, and values, [rows,
/// qkv] in bfloat16.
void block_input_rows(const BlockWeights& weights, const BlockRope& rope, const float* x,
                      uint16_t* qkv, int64_t rows);

/// middle = x + mixed W_output^T, mixed [rows, heads*head_dim] being what attention gave, in
/// bfloat16; out = middle + MLP(norm(middle)).
void block_output_rows(const BlockWeights& weights, const float* x, const uint16_t* mixed,
                       float* middle, float* out, int64_t rows);

/// From d_out: d_middle, d_mixed and the share of these rows in `sums`.
void block_output_backward_rows(const BlockWeights& weights, const float* d_out,
                                const float* middle, const uint16_t* mixed, float* d_middle,
                                uint16_t* d_mixed, BlockSums& sums, int64_t rows);

/// From the gradient of what block_input_rows gave and d_middle: d_x and the share of these rows in
/// `sums`. `rope` turns back.
void block_input_backward_rows(const BlockWeights& weights, const BlockRope& rope,
                               const float* d_qkv, const float* x, const float* d_middle,
                               float* d_x, BlockSums& sums, int64_t rows);

}  // namespace hone::kernels
