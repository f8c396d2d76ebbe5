#pragma once

// Neighbouring sequences that pass through a whole transformer block one after the other, so that
// what the passes leave each other stays in a core's second-level cache, and those of their rows
// that the result has.

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace hone::kernels {

struct BlockChunk {
  int64_t row = 0, rows = 0;
  std::vector<int64_t> cu{0};

  int64_t sequences() const { return static_cast<int64_t>(cu.size()) - 1; }
  /// Takes in the next sequence.
  void add(int64_t length) {
    rows += length;
    cu.push_back(rows);
  }
};

/// A chunk's rows that the result has: where they stand in it, and which of the chunk they are.
struct ResultRows {
  int64_t first, count;
  bool all;             // every row of the chunk
  const int64_t* rows;  // else: in x, ascending
  int64_t chunk_row;

  /// `selected` [M] as the op takes it; undefined: all rows.
  ResultRows(const BlockChunk& chunk, const at::Tensor& selected)
      : first(chunk.row),
        count(chunk.rows),
        all(!selected.defined()),
        rows(nullptr),
        chunk_row(chunk.row) {
    if (all) return;
    const auto* begin = selected.const_data_ptr<int64_t>();
    const auto* end = begin + selected.size(0);
    rows = std::lower_bound(begin, end, chunk.row);
    first = rows - begin;
    count = std::lower_bound(rows, end, chunk.row + chunk.rows) - rows;
  }

  /// Of [chunk's rows, width] those from `begin` on that the result has, `size` of them: where they
  /// are, or copied to `to`.
  template <typename T>
  const T* gathered(int64_t begin, int64_t size, const T* from, int64_t width, T* to) const {
    if (all) return from + begin * width;
    for (int64_t i = 0; i < size; ++i) {
      std::copy_n(from + (rows[begin + i] - chunk_row) * width, width, to + i * width);
    }
    return to;
  }
  /// The other way, unless `all`: to [chunk's rows, width], whose other rows stay.
  template <typename T>
  void spread(int64_t begin, int64_t size, const T* from, int64_t width, T* to) const {
    if (all) return;
    for (int64_t i = 0; i < size; ++i) {
      std::copy_n(from + i * width, width, to + (rows[begin + i] - chunk_row) * width);
    }
  }
};

}  // namespace hone::kernels
