#pragma once

// Where the sequences of a batch end within a tile: a mark at the last entry of each, in shared
// memory, written by as many threads as there are sequences.

#include <cstdint>

#include "kernels/cuda/tile_runs.cuh"
#include "kernels/math/advantages.h"

namespace hone::kernels::cuda {

/// A row that is at most kNear rows before the one of entry t: 32 probes at a time by each warp, so
/// one step for 16,384 rows. What is left of the search, marking does anyway.
template <typename T>
HONE_DEVICE int64_t row_near(const math::AdvantageRows<T>& rows, int64_t t) {
  if (rows.cu_seqlens == nullptr) return t / rows.width;
  constexpr int64_t kNear = 2 * kTileThreads;
  int64_t low = 0, high = rows.sequences;  // cu_seqlens[low] <= t < cu_seqlens[high]
  while (high - low > kNear) {
    const int64_t step = (high - low + device::kWarp - 1) / device::kWarp;
    const int64_t probe = low + device::lane() * step;
    const bool below = probe < high && rows.cu_seqlens[probe] <= t;
    const int reached = device::warp_all_reduce(below ? 1 : 0, device::Add{});  // lane 0 always
    low += (reached - 1) * step;
    high = low + step < high ? low + step : high;
  }
  return low;
}

/// mark - 1: the number of the row from `low` on that ends with this entry of the tile. 0: none.
struct RowMarks {
  device::SharedView<uint32_t> mark;  // [kTile]
  device::SharedView<int64_t> last;   // [1] the row of the tile's last entry
  int64_t low;                        // a row that begins no later than the tile

  HONE_DEVICE int64_t row(uint32_t m) const { return low + m - 1; }
  HONE_DEVICE device::Vector<uint32_t, kRun> of_run(int s) const {
    return device::load_vector<kRun>(mark, run_begin(s));
  }
};

/// Before marking, a barrier between.
HONE_DEVICE void clear_marks(const device::SharedView<uint32_t>& mark) {
  HONE_UNROLL
  for (int s = 0; s < kRuns; ++s) {
    device::store_vector(mark, run_begin(s), device::Vector<uint32_t, kRun>{{0, 0, 0, 0}});
  }
}

/// Marks the rows of [begin, end). A barrier before the marks are read.
template <typename T>
HONE_DEVICE void mark_rows(const math::AdvantageRows<T>& rows, const RowMarks& marks, int64_t begin,
                           int64_t end) {
  for (int64_t row = marks.low + device::thread_index(); row < rows.sequences;
       row += kTileThreads) {
    const int64_t row_begin = rows.begin(row), row_end = rows.end(row);
    if (row_begin >= end) break;
    if (row_end > row_begin && row_end > begin && row_end <= end) {
      marks.mark[row_end - 1 - begin] = static_cast<uint32_t>(row - marks.low + 1);
    }
    if (row_end >= end) marks.last[0] = row;  // and not empty, because it begins before the end
  }
}

}  // namespace hone::kernels::cuda
