#pragma once

// The reverse scan over a span of consecutive trained entries, a vector of time steps at once.

#include <cstdint>

#include "kernels/math/gae.h"
#include "kernels/math/vtrace.h"

namespace hone::kernels {

/// Pointers to the first entry of the span; null where an input is not given or the rewards are not
/// wanted.
template <typename T>
struct AdvantageSpan {
  const T *logp_old, *logp_ref, *values, *token_rewards, *logp_behaviour;
  T *advantages, *returns, *rewards;
  int64_t size;
};

/// `state` is the rule's state after the span, and then the state before it. An entry's bits depend
/// on the entries from it to the end of the span, not on where in a batch the span lies.
template <typename T>
void advantage_span(math::Gae<T>, const AdvantageSpan<T>& span, const math::AdvantageParams<T>& p,
                    T& state, math::AdvantageStats& stats);
template <typename T>
void advantage_span(math::Vtrace<T>, const AdvantageSpan<T>& span,
                    const math::AdvantageParams<T>& p, math::VtraceState<T>& state,
                    math::AdvantageStats& stats);

}  // namespace hone::kernels
