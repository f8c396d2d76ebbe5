#pragma once

// Which sequence an entry of the batch belongs to.

#include <cstdint>

#include "kernels/device/collectives.h"
#include "kernels/math/advantages.h"

namespace hone::kernels::cuda {

/// A row that is at most kNear - 1 before the last one with begin(row) <= t (empty rows are passed
/// over); with kNear 1 that one itself. A whole warp calls it and every lane has it: 32 probes at a
/// time, so one step for 8,192 rows and a kNear of 256.
template <int64_t kNear, typename T>
HONE_DEVICE int64_t row_near(const math::AdvantageRows<T>& rows, int64_t t) {
  if (rows.cu_seqlens == nullptr) return t / rows.width;
  int64_t low = 0, high = rows.sequences;  // cu_seqlens[low] <= t < cu_seqlens[high]
  while (high - low > kNear) {
    const int64_t step = (high - low + device::kWarp - 1) / device::kWarp;
    const int64_t probe = low + device::lane() * step;
    const bool below = probe < high && rows.cu_seqlens[probe] <= t;
    const unsigned reached = device::ballot(below);  // lane 0 always, and no lane after one without
    low += (device::ones(reached) - 1) * step;
    high = low + step < high ? low + step : high;
  }
  return low;
}

}  // namespace hone::kernels::cuda
