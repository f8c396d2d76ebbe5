#pragma once

// The losses of many float32 tokens at once: the formulas of kernels/math on vectors, for the cases
// that training runs. Everything else, and double, goes token by token through kernels/math, which
// is what the tests judge these by. A token's bits do not depend on its place.

#include <cstdint>

#include "kernels/math/policy.h"
#include "kernels/math/preference.h"
#include "kernels/math/value.h"
#include "kernels/math/whitening.h"

namespace hone::kernels {

struct PolicyRows {
  const float *now, *old, *advantages;
  const float* ref;  // null where kl_coef is 0
  const float* weights;
  float* grad;
  int64_t size;
};
/// Clipped surrogates of the tokens' own ratios without a behaviour policy.
inline bool vectorised(const math::PolicyParams<float>& p) {
  return p.surrogate == math::Surrogate::kClip && p.level == math::RatioLevel::kToken &&
         p.behaviour == math::Behaviour::kNone;
}
math::PolicySums policy_rows(const PolicyRows& rows, const math::PolicyParams<float>& p);

struct ValueRows {
  const float *now, *old, *targets, *weights;
  float* grad;
  int64_t size;
};
math::ValueSums value_rows(const ValueRows& rows, float clip);

struct PreferenceRows {
  const float *deltas, *targets, *weights;
  const float* margins;  // or null
  float* grad;
  int64_t size;
};
/// Bradley-Terry without lapses.
inline bool vectorised(const math::PreferenceParams<float>& p) {
  return p.model == math::PreferenceModel::kBradleyTerry && p.lapse == 0;
}
math::PreferenceSum preference_rows(const PreferenceRows& rows);

/// Of x [size], all of which count.
math::MomentSums moment_rows(const float* x, int64_t size);

}  // namespace hone::kernels
