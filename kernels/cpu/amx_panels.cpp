// How weights become tiles for the matrix unit, and tiles of sums weights' gradients.

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/amx_block.h"

namespace hone::kernels {
namespace {

constexpr int64_t kPairs = 16, kColumns = 16, kTile = 512, kSums = 256;

}  // namespace

void RightPanel::put(const uint16_t* matrix, bool transposed, int64_t inner, int64_t columns,
                     int64_t first_inner, int64_t first_column, int64_t column_step) {
  const int64_t row = transposed ? 1 : columns, column = transposed ? inner : 1;
  for (int64_t j = 0; j < columns; j += kColumns) {
    for (int64_t k = 0; k < inner; k += 2 * kPairs) {
      const int64_t column_tile = first_column + j / kColumns * column_step;
      uint16_t* tile = lines_.front().elements +
                       (column_tile * inner_ + first_inner + k / (2 * kPairs)) * kTile;
      const uint16_t* from = matrix + k * row + j * column;
      const int64_t pairs = std::min(kPairs, (inner - k + 1) / 2);
      const int64_t here = std::min(kColumns, columns - j);
      for (int64_t p = 0; p < pairs; ++p, tile += 2 * kColumns) {
        const bool second = k + 2 * p + 1 < inner;
        const uint16_t* pair = from + 2 * p * row;
        for (int64_t c = 0; c < here; ++c) {
          tile[2 * c] = pair[c * column];
          tile[2 * c + 1] = second ? pair[c * column + row] : uint16_t{0};
        }
      }
    }
  }
}

void BlockWeights::pack_gate_up(const uint16_t* matrix) {
  const int64_t inner = shape.width / 32, tiles = shape.gate_tiles();
  gate_up = RightPanel(inner, 2 * tiles);
  gate_up.put(matrix, true, shape.width, shape.gate, 0, 0, 2);
  gate_up.put(matrix + shape.gate * shape.width, true, shape.width, shape.gate, 0, 1, 2);
}

void BlockWeights::pack_forward(const uint16_t* qkv_matrix, const uint16_t* output_matrix,
                                const uint16_t* gate_up_matrix, const uint16_t* down_matrix) {
  const auto [width, all, heads, gate] = shape;
  qkv = RightPanel(width / 32, all / 16);
  qkv.put(qkv_matrix, true, width, all);
  output = RightPanel(heads / 32, width / 16);
  output.put(output_matrix, true, heads, width);
  pack_gate_up(gate_up_matrix);
  down = RightPanel(shape.gate_tiles() / 2, width / 16);
  down.put(down_matrix, true, gate, width);
}

void BlockWeights::pack_backward(const uint16_t* qkv_matrix, const uint16_t* output_matrix,
                                 const uint16_t* gate_up_matrix, const uint16_t* down_matrix) {
  const auto [width, all, heads, gate] = shape;
  const int64_t tiles = shape.gate_tiles();
  d_normed = RightPanel(all / 32, width / 16);
  d_normed.put(qkv_matrix, false, all, width);
  d_attended = RightPanel(width / 32, heads / 16);
  d_attended.put(output_matrix, false, width, heads);
  pack_gate_up(gate_up_matrix);
  d_mlp = RightPanel(tiles, width / 16);
  d_mlp.put(gate_up_matrix, false, gate, width);
  d_mlp.put(gate_up_matrix + gate * width, false, gate, width, tiles / 2);
  d_gated = RightPanel(width / 32, tiles);
  d_gated.put(down_matrix, false, width, gate);
}

BlockSums::BlockSums(const BlockShape& shape) {
  const int64_t gate = shape.gate_tiles() * 16;
  int64_t end = 0, part = 0;
  for (const int64_t columns : {shape.qkv, shape.heads, 2 * gate, gate, int64_t{1}, int64_t{1}}) {
    offsets_[part++] = end;
    end += shape.width * columns;
  }
  offsets_[part] = end;
  lines_.resize(static_cast<size_t>((end + 15) / 16));
}

void BlockSums::add(const BlockSums& other) {
  float* to = at(0);
  const float* from = other.at(0);
  for (int64_t i = 0; i < offsets_[6]; ++i) to[i] += from[i];
}

void BlockSums::unpack(const BlockShape& shape, float* qkv, float* output, float* gate_up,
                       float* down) const {
  const auto [width, all, heads, gate] = shape;
  // Tile (i, j) of `tiles` columns of tiles, from column `first`: element (r, c) is (16i+r, 16j+c).
  const auto each = [width = width](const float* sums, int64_t tiles, int64_t first,
                                    int64_t columns, const auto& put) {
    for (int64_t i = 0; i < width / 16; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        const float* column = sums + (i * tiles + first + j / 16) * kSums + j % 16;
        for (int64_t r = 0; r < 16; ++r) put(16 * i + r, j, column[16 * r]);
      }
    }
  };
  const int64_t tiles = shape.gate_tiles();
  const auto transposed = [width = width](float* to) {
    return [=](int64_t i, int64_t j, float sum) { to[j * width + i] = sum; };
  };
  const auto plain = [](float* to, int64_t columns) {
    return [=](int64_t i, int64_t j, float sum) { to[i * columns + j] = sum; };
  };
  each(at(0), all / 16, 0, all, transposed(qkv));
  each(at(1), heads / 16, 0, heads, plain(output, heads));
  each(at(2), 2 * tiles, 0, gate, transposed(gate_up));
  each(at(2), 2 * tiles, tiles, gate, transposed(gate_up + gate * width));
  each(at(3), tiles, 0, gate, plain(down, gate));
}

}  // namespace hone::kernels
