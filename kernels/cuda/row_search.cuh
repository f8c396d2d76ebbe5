#pragma once

// Which sequence an entry of the batch belongs to.

#include <cstdint>

#include "kernels/device/collectives.h"
#include "kernels/math/advantages.h"

namespace hone::kernels::cuda {

/// A row that is at most kNear - 1 before the last one with begin(row) <= t (empty rows are passed
/// over); with kNear 1 that one itself. A whole warp calls it and every lane has it: 32 probes at a
/// time. `rows`: cu_seqlens, sequences and tokens, or a width.
template <int64_t kNear, typename T>
HONE_DEVICE int64_t row_near(const math::AdvantageRows<T>& rows, int64_t t) {
  if (rows.cu_seqlens == nullptr) return t / rows.width;
  int64_t low = 0, high = rows.sequences;  // cu_seqlens[low] <= t < cu_seqlens[high]
  // First around the row that it would be if all were equally long.
  const float share = static_cast<float>(t) / static_cast<float>(rows.tokens);
  int64_t step = kNear > 1 ? kNear / 2 : device::kWarp / 2;
  int64_t first = static_cast<int64_t>(share * static_cast<float>(high)) - step * device::kWarp / 2;
  while (high - low > kNear) {
    const int64_t probe = first + device::lane() * step;
    const bool below = probe <= low || (probe < high && rows.cu_seqlens[probe] <= t);
    const int reached = device::ones(device::ballot(below));  // no lane after one that is not
    const int64_t beyond = first + reached * step;
    if (reached > 0 && beyond - step > low) low = beyond - step;
    if (reached < device::kWarp && beyond < high) high = beyond;
    step = (high - low + device::kWarp - 1) / device::kWarp;
    first = low;
  }
  return low;
}

}  // namespace hone::kernels::cuda
