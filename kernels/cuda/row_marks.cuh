#pragma once

// Where the sequences of a batch end within a tile: a mark at the last entry of each, in shared
// memory, written by as many threads as there are sequences.

#include <cstdint>

#include "kernels/cuda/row_search.cuh"
#include "kernels/cuda/tile_runs.cuh"
#include "kernels/math/advantages.h"

namespace hone::kernels::cuda {

/// Of one tile: `mark` - 1 is the number of the row, from `low` on, that ends with this entry.
struct RowMarks {
  device::SharedView<uint32_t> mark;  // [kTile], 0: no row ends here
  device::SharedView<int64_t> bound;  // [2] a row that begins no later than the tile; the last row

  HONE_DEVICE int64_t row(uint32_t m) const { return bound[0] + m - 1; }
  HONE_DEVICE Run<uint32_t> of_run(int s) const { return whole_run<uint32_t>(mark, run_begin(s)); }

  /// Before `set`, a barrier between.
  HONE_DEVICE void clear() const {
    HONE_UNROLL
    for (int s = 0; s < kRuns; ++s) {
      device::store_vector(mark, run_begin(s), Run<uint32_t>{{0, 0, 0, 0}});
    }
    if (device::thread_index() == 0) bound[1] = 0;  // should no row reach this far
  }

  /// Marks the rows of the tile [begin, end).
  template <typename T>
  HONE_DEVICE void set(const math::AdvantageRows<T>& rows, int64_t begin, int64_t end) const {
    // What is left of the search, marking does anyway.
    const int64_t low = row_near<kTileThreads>(rows, begin);
    if (device::thread_index() == 0) bound[0] = low;
    for (int64_t row = low + device::thread_index(); row < rows.sequences; row += kTileThreads) {
      const int64_t row_begin = rows.begin(row), row_end = rows.end(row);
      if (row_begin >= end) break;
      if (row_end > row_begin && row_end > begin && row_end <= end) {
        mark[row_end - 1 - begin] = static_cast<uint32_t>(row - low + 1);
      }
      if (row_end >= end) bound[1] = row;  // and not empty, because it begins before the end
    }
  }
};

}  // namespace hone::kernels::cuda
