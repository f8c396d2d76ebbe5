#pragma once

// math::group_advantages of many float32 groups at once. A group's scores lie along the lanes of
// vectors of doubles, and as many groups as a vector has lanes share the arithmetic of their means
// and deviations (a square root and a division for all of them). A group's bits do not depend on
// its place.

#include <cstdint>

#include "kernels/math/group.h"

namespace hone::kernels {

struct GroupRows {
  const float* scores;
  float* out;
  int64_t group_size;        // of every group, or
  const int64_t* cu_groups;  // [groups + 1] where group_size is 0
};

/// Groups that need one mean and one deviation. Everything else, and double, goes group by group
/// through kernels/math.
inline bool vectorised(const math::GroupParams& p) {
  return p.kind == math::GroupKind::kGrpo || p.kind == math::GroupKind::kDrGrpo ||
         p.kind == math::GroupKind::kRloo;
}

/// The groups [first, last).
void group_advantage_rows(const GroupRows& rows, const math::GroupParams& p, int64_t first,
                          int64_t last);

}  // namespace hone::kernels
