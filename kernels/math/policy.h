#pragma once

// The policy loss of one token, its derivative and what it adds to the metrics. policy_loss and
// head_policy_loss, on CPU and CUDA, call policy_token() and nothing else.
// Sources: clip: Schulman et al. 2017 eq. 7; dual clip: Ye et al. 2020; clip-higher: DAPO (Yu et
// al. 2025); sequence ratios: GSPO (Zheng et al. 2025); CISPO: MiniMax-M1 (2025); SAPO: Gao et al.
// 2025; behaviour weights: truncated importance sampling (Espeholt et al. 2018), masked: IcePop
// (2025).

#include <cmath>

#include "kernels/math/host_device.h"
#include "kernels/math/kl.h"
#include "kernels/math/logistic.h"

namespace hone::kernels::math {

enum class Surrogate {
  kClip,       // max(-A r, -A clip(r))
  kCispo,      // -stop(clip(r)) A log pi: a clipped token still has a gradient
  kSapo,       // -A (4 / tau) sigma(tau (r - 1)): a soft clip
  kReinforce,  // -A log pi: no ratio
};

/// Whose ratio r is.
enum class RatioLevel {
  kToken,          // exp(new - old)
  kSequenceMean,   // exp(mean over the sequence's tokens of new - old); every token moves it
  kSequenceToken,  // the same value, but a token's gradient goes to itself alone (GSPO-token)
  kSequenceSum,    // exp(sum over the sequence's tokens)
};

/// The weight exp(old - behaviour) of a token whose sampler was not the old policy.
enum class Behaviour {
  kNone,
  kTruncate,  // held inside [low, high]
  kMask,      // 0 outside [low, high]
};

template <typename T>
struct PolicyParams {
  T clip_low;  // the ratio is clipped to [1 - clip_low, 1 + clip_high]
  T clip_high;
  T dual_clip;  // c > 1: a loss with A < 0 never exceeds -c*A; 0 = off
  T kl_coef;    // weight of the reference KL inside the loss; 0 = off, logp_ref is not used
  KlEstimator kl_estimator;
  Surrogate surrogate = Surrogate::kClip;
  RatioLevel level = RatioLevel::kToken;
  T tau_positive = 1;  // temperature of kSapo where A > 0, and elsewhere
  T tau_negative = 1;
  Behaviour behaviour = Behaviour::kNone;
  bool behaviour_of_sequence = false;  // the product over the sequence's tokens
  T behaviour_low = 0;
  T behaviour_high = 0;
};

/// What a token's loss is a function of.
template <typename T>
struct PolicyPoint {
  T logp_new;
  T logp_old;
  T advantage;
  T logp_ref;       // not used where kl_coef is 0
  T log_ratio;      // log r: new - old, or what the sequence shares
  T log_behaviour;  // old - behaviour, or its sum over the sequence; not used with kNone
};

template <typename T>
struct PolicyToken {
  T loss;         // surrogate + kl_coef * KL, to be multiplied by the token's weight
  T derivative;   // d loss / d logp_new, where the level gives a token its own ratio
  T surrogate;    // the part of `derivative` that is d surrogate / d log r
  T kl_gradient;  // and the rest
  T kl;           // the reference KL's estimate; 0 without one
  T log_ratio;    // logp_new - logp_old
  T ratio;        // r
  T behaviour;    // weight of the behaviour policy; 1 without one
  bool clipped;   // the clipped branch was the larger one (kCispo: the ratio was changed)
  bool dual_clipped;
  bool behaviour_cut;  // the weight was held or masked
};

template <typename T>
HONE_HD T clamp_ratio(T ratio, const PolicyParams<T>& p) {
  const T low = T(1) - p.clip_low;
  const T high = T(1) + p.clip_high;
  return ratio < low ? low : (ratio > high ? high : ratio);
}

/// loss = max(-A*r, -A*clip(r)); with dual clip and A < 0: min(that, -c*A).
/// Inside the clip range (and on its edges) both branches are equal and the gradient -A*r flows.
template <typename T>
HONE_HD void clipped_surrogate(T advantage, const PolicyParams<T>& p, PolicyToken<T>& out) {
  const T free_loss = -advantage * out.ratio;
  const T held_loss = -advantage * clamp_ratio(out.ratio, p);
  // The larger instead of a branch: which one it is is a coin's toss.
  out.loss = held_loss > free_loss ? held_loss : free_loss;
  out.clipped = held_loss > free_loss;
  // d(-A e^x)/dx = -A e^x
  out.derivative = out.clipped ? T(0) : free_loss;
  if (p.dual_clip > T(0) && advantage < T(0)) {
    const T ceiling = -p.dual_clip * advantage;
    if (out.loss > ceiling) {
      out.loss = ceiling;
      out.derivative = T(0);
      out.dual_clipped = true;
    }
  }
}

template <typename T>
HONE_HD void surrogate(T logp_new, T advantage, const PolicyParams<T>& p, PolicyToken<T>& out) {
  switch (p.surrogate) {
    case Surrogate::kCispo: {
      const T held = clamp_ratio(out.ratio, p);
      out.clipped = held != out.ratio;
      out.derivative = -held * advantage;
      out.loss = out.derivative * logp_new;
      return;
    }
    case Surrogate::kSapo: {
      const T tau = advantage > T(0) ? p.tau_positive : p.tau_negative;
      const T gate = logistic(tau * (out.ratio - T(1)));
      out.loss = -advantage * (T(4) / tau) * gate;
      out.derivative = -advantage * T(4) * gate * (T(1) - gate) * out.ratio;
      return;
    }
    case Surrogate::kReinforce:
      out.loss = -advantage * logp_new;
      out.derivative = -advantage;
      return;
    case Surrogate::kClip:
      break;
  }
  clipped_surrogate(advantage, p, out);
}

template <typename T>
HONE_HD T behaviour_weight(T log_behaviour, const PolicyParams<T>& p, bool& cut) {
  const T weight = std::exp(log_behaviour);
  const bool low = weight<p.behaviour_low, high = weight> p.behaviour_high;
  cut = low || high;
  if (!cut) return weight;
  if (p.behaviour == Behaviour::kMask) return T(0);
  return low ? p.behaviour_low : p.behaviour_high;
}

/// The behaviour weight is a constant and multiplies the surrogate, not the reference KL. `ratio`
/// is e^x.log_ratio, from a caller that has many to make.
template <typename T>
HONE_HD PolicyToken<T> policy_token(const PolicyPoint<T>& x, T ratio, const PolicyParams<T>& p) {
  PolicyToken<T> out{};
  out.log_ratio = x.logp_new - x.logp_old;
  out.ratio = ratio;
  out.behaviour = T(1);
  surrogate(x.logp_new, x.advantage, p, out);
  if (p.behaviour != Behaviour::kNone) {
    out.behaviour = behaviour_weight(x.log_behaviour, p, out.behaviour_cut);
    // A token that is left out may have an infinite loss; 0 times that must stay 0.
    out.loss = out.behaviour == T(0) ? T(0) : out.behaviour * out.loss;
    out.derivative = out.behaviour == T(0) ? T(0) : out.behaviour * out.derivative;
  }
  out.surrogate = out.derivative;
  if (p.kl_coef != T(0)) {
    const KlTerm<T> kl = kl_term(x.logp_new - x.logp_ref, p.kl_estimator);
    out.kl = kl.value;
    out.kl_gradient = p.kl_coef * kl.derivative;
    out.loss += p.kl_coef * kl.value;
    out.derivative += out.kl_gradient;
  }
  return out;
}

template <typename T>
HONE_HD PolicyToken<T> policy_token(const PolicyPoint<T>& x, const PolicyParams<T>& p) {
  return policy_token(x, std::exp(x.log_ratio), p);
}

/// With the token's own ratio and no behaviour policy.
template <typename T>
HONE_HD PolicyToken<T> policy_token(T logp_new, T logp_old, T advantage, T logp_ref,
                                    const PolicyParams<T>& p) {
  return policy_token(
      PolicyPoint<T>{logp_new, logp_old, advantage, logp_ref, logp_new - logp_old, T(0)}, p);
}

/// Running sums in double over tokens in a fixed order. The fields after `loss` are, in this order,
/// the `metrics` tensor of policy_loss; all but the largest deviation are weighted by the tokens'
/// weights, so that those of micro-batches add up. A: what the sums are held in.
template <typename A>
struct PolicySumsIn {
  A loss = 0;
  A clip_fraction = 0;
  A approx_kl = 0;       // 0.5 * (new - old)^2
  A mean_log_ratio = 0;  // k1: old - new
  A mean_ratio = 0;
  A max_deviation = 0;  // max |ratio - 1|, not weighted
  A entropy = 0;        // exact where the caller has it, else the sample's -logp_new
  A reference_kl = 0;   // as kl_estimator gives it; 0 where kl_coef is 0
  A dual_clip_fraction = 0;
  A behaviour = 0;      // weights of the behaviour policy
  A behaviour_cut = 0;  // share of them that was held or masked

  static constexpr int64_t kMetrics = 10;

  template <typename T>
  HONE_HD void add(const PolicyToken<T>& token, T weight, T token_entropy) {
    const A w = weight;
    const A x = token.log_ratio;
    loss += w * token.loss;
    clip_fraction += w * static_cast<A>(token.clipped);
    approx_kl += w * A(0.5) * x * x;
    mean_log_ratio -= w * x;
    mean_ratio += w * token.ratio;
    see_deviation(std::fabs(static_cast<A>(token.ratio) - A(1)));
    entropy += w * token_entropy;
    reference_kl += w * token.kl;
    dual_clip_fraction += w * static_cast<A>(token.dual_clipped);
    behaviour += w * token.behaviour;
    behaviour_cut += w * static_cast<A>(token.behaviour_cut);
  }

  template <typename B>
  HONE_HD void merge(const PolicySumsIn<B>& later) {
    loss += later.loss;
    clip_fraction += later.clip_fraction;
    approx_kl += later.approx_kl;
    mean_log_ratio += later.mean_log_ratio;
    mean_ratio += later.mean_ratio;
    see_deviation(later.max_deviation);
    entropy += later.entropy;
    reference_kl += later.reference_kl;
    dual_clip_fraction += later.dual_clip_fraction;
    behaviour += later.behaviour;
    behaviour_cut += later.behaviour_cut;
  }

  /// The larger one; NaN sticks instead of being compared away.
  HONE_HD void see_deviation(A deviation) {
    if (deviation > max_deviation || deviation != deviation) max_deviation = deviation;
  }

  /// The `metrics` tensor.
  HONE_HD void store(double* metrics) const {
    const double all[kMetrics] = {clip_fraction, approx_kl,    mean_log_ratio, mean_ratio,
                                  max_deviation, entropy,      reference_kl,   dual_clip_fraction,
                                  behaviour,     behaviour_cut};
    for (int i = 0; i < kMetrics; ++i) metrics[i] = all[i];
  }
};
using PolicySums = PolicySumsIn<double>;

}  // namespace hone::kernels::math
