#pragma once

// Negative log-likelihood of one comparison as a function of z = score(first) - score(second).
// Sources: Bradley & Terry 1952; Rao & Kupper 1967; Davidson 1970; Christiano et al. 2017
// sec. 2.2.3 (a rater who answers at random some of the time).

#include <cmath>

#include "kernels/math/host_device.h"
#include "kernels/math/logistic.h"

namespace hone::kernels::math {

enum class PreferenceModel { kBradleyTerry, kDavidson, kRaoKupper };

template <typename T>
struct PreferenceParams {
  PreferenceModel model;
  T tie;    // Davidson nu >= 0, Rao-Kupper theta >= 1
  T lapse;  // a lapsing rater picks either side with probability `lapse` each, never a tie
};

template <typename T>
struct LogTerm {
  T value;
  T derivative;  // with respect to z
};

/// log sigma(z - offset).
template <typename T>
HONE_HD LogTerm<T> log_logistic(T z, T offset) {
  return {-softplus(offset - z), logistic(offset - z)};
}

/// log P(first wins) of the model without lapses; P(second wins) is the same at -z.
template <typename T>
HONE_HD LogTerm<T> log_win(T z, const PreferenceParams<T>& p) {
  switch (p.model) {
    case PreferenceModel::kDavidson: {
      // e^{z/2} / (e^{z/2} + e^{-z/2} + nu), divided by its largest power.
      const T a = T(0.5) * std::fabs(z);
      const T low = std::exp(-a);                        // e^{-|z|/2}
      const T total = T(1) + low * low + p.tie * low;    // denominator * e^{-|z|/2}
      const T numerator = z >= T(0) ? T(0) : -T(2) * a;  // log(e^{z/2} e^{-|z|/2})
      const T win = (z >= T(0) ? T(1) : low * low) / total;
      const T lose = (z >= T(0) ? low * low : T(1)) / total;
      return {numerator - std::log(total), T(0.5) * (T(1) - win + lose)};
    }
    case PreferenceModel::kRaoKupper:
      return log_logistic(z, std::log(p.tie));
    case PreferenceModel::kBradleyTerry:
      break;
  }
  return log_logistic(z, T(0));
}

/// log_win of z and of -z.
template <typename T>
struct Outcomes {
  LogTerm<T> first, second;
};
template <typename T>
HONE_HD Outcomes<T> log_outcomes(T z, const PreferenceParams<T>& p) {
  if (p.model != PreferenceModel::kBradleyTerry) return {log_win(z, p), log_win(-z, p)};
  const LogisticTail<T> tail = logistic_tail(z);
  return {{-softplus(-z, tail), logistic(-z, tail)}, {-softplus(z, tail), logistic(z, tail)}};
}

/// log P(tie) of Davidson or Rao-Kupper without lapses; -infinity where ties are impossible.
template <typename T>
HONE_HD LogTerm<T> log_tie(T z, const PreferenceParams<T>& p) {
  const LogTerm<T> first = log_win(z, p);
  const LogTerm<T> second = log_win(-z, p);
  // Davidson: nu * sqrt(P1 P2). Rao-Kupper: (theta^2 - 1) P1 P2.
  const bool davidson = p.model == PreferenceModel::kDavidson;
  const T power = davidson ? T(0.5) : T(1);
  const T factor = davidson ? p.tie : p.tie * p.tie - T(1);
  return {std::log(factor) + power * (first.value + second.value),
          power * (first.derivative - second.derivative)};
}

/// Minus log of (1 - 2 lapse) e^x + floor, as a function of z; floor is `lapse` for a win, 0 for a
/// tie (then the logarithm splits and nothing can underflow).
template <typename T>
HONE_HD LogTerm<T> lapsed_nll(const LogTerm<T>& x, T lapse, T floor) {
  if (lapse == T(0)) return {-x.value, -x.derivative};
  if (floor == T(0)) return {-x.value - std::log(T(1) - T(2) * lapse), -x.derivative};
  const T kept = (T(1) - T(2) * lapse) * std::exp(x.value);
  const T likelihood = kept + floor;
  return {-std::log(likelihood), -kept * x.derivative / likelihood};
}

/// Sum in double of weighted losses.
struct PreferenceSum {
  double loss = 0;

  HONE_HD void merge(const PreferenceSum& later) { loss += later.loss; }
};

/// target in [0,1] is the share of the first; with an explicit tie model exactly 0.5 is a tie.
template <typename T>
HONE_HD LogTerm<T> preference_nll(T z, T target, const PreferenceParams<T>& p) {
  if (p.model != PreferenceModel::kBradleyTerry && target == T(0.5)) {
    return lapsed_nll(log_tie(z, p), p.lapse, T(0));
  }
  const Outcomes<T> outcomes = log_outcomes(z, p);
  // A share of 0 is left out, not multiplied: 0 * infinity would be NaN.
  LogTerm<T> out{T(0), T(0)};
  if (target != T(0)) {
    const LogTerm<T> first = lapsed_nll(outcomes.first, p.lapse, p.lapse);
    out.value += target * first.value;
    out.derivative += target * first.derivative;
  }
  if (target != T(1)) {
    const LogTerm<T> second = lapsed_nll(outcomes.second, p.lapse, p.lapse);
    out.value += (T(1) - target) * second.value;
    out.derivative -= (T(1) - target) * second.derivative;
  }
  return out;
}

}  // namespace hone::kernels::math
