#pragma once

// Intervals of a share that hold at every time: one may look after each answer and decide when one
// likes, and the true share is outside at any of these times with probability at most 5 %.

#include <cstdint>

namespace hone::data::service {

struct ShareInterval {
  double low = 0.0, high = 1.0;
};

/// Confidence sequence of `successes` among `of` independent trials: the shares p at which the
/// mixture martingale B(1/2 + s, 1/2 + f) / (B(1/2, 1/2) p^s (1 - p)^f) is below 1 / error
/// (H. Robbins, Statistical methods related to the law of the iterated logarithm, 1970; Ville's
/// inequality). No trial: [0, 1].
ShareInterval share_at_any_time(int64_t successes, int64_t of, double error = 0.05);

}  // namespace hone::data::service
