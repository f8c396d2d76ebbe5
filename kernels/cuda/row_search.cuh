#pragma once

// Which sequence an entry of the batch belongs to.

#include <cstdint>

#include "kernels/device/collectives.h"
#include "kernels/math/advantages.h"

namespace hone::kernels::cuda {

/// The sequences that may hold an entry: begin(first) <= t < end(last).
struct RowRange {
  int64_t first, last;
};

/// The last row with begin(row) <= t < end(range.last), by bisection (empty rows are passed over).
template <typename T>
HONE_DEVICE int64_t row_of(const math::AdvantageRows<T>& rows, int64_t t, RowRange range) {
  if (rows.cu_seqlens == nullptr) return t / rows.width;
  int64_t low = range.first, high = range.last + 1;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    if (rows.cu_seqlens[middle] <= t) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

/// The same among all rows by a whole warp, in every lane: 32 probes at a time, so three steps for
/// 32,768 rows instead of fifteen.
template <typename T>
HONE_DEVICE int64_t row_of_by_warp(const math::AdvantageRows<T>& rows, int64_t t) {
  if (rows.cu_seqlens == nullptr) return t / rows.width;
  int64_t low = 0, high = rows.sequences;  // cu_seqlens[low] <= t < cu_seqlens[high]
  while (high - low > 1) {
    const int64_t step = (high - low + device::kWarp - 1) / device::kWarp;
    const int64_t probe = low + device::lane() * step;
    const bool below = probe < high && rows.cu_seqlens[probe] <= t;
    const int reached = device::warp_all_reduce(below ? 1 : 0, device::Add{});  // lane 0 always
    low += (reached - 1) * step;
    high = low + step < high ? low + step : high;
  }
  return low;
}

}  // namespace hone::kernels::cuda
