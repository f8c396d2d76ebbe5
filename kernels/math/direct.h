#pragma once

// Losses that train a policy on preferences without a reward model, for one pair of responses (or,
// KTO, one response), as functions of the log-probabilities of whole responses.
// Sources: DPO: Rafailov et al. 2023 eq. 7; cDPO: Mitchell 2023; robust: Chowdhury et al. 2024;
// IPO: Azar et al. 2023 eq. 17; hinge: SLiC, Zhao et al. 2023; SimPO: Meng et al. 2024 eq. 6; ORPO:
// Hong et al. 2024 eq. 6-7; KTO: Ethayarajh et al. 2024 eq. 7-8.

#include <cmath>

#include "kernels/math/host_device.h"
#include "kernels/math/logistic.h"

namespace hone::kernels::math {

enum class DirectKind {
  kDpo,  // -log sigma(beta h), h = log pi/ref (chosen) - log pi/ref (rejected), sums; smoothing e:
         // (1-e) L(h) + e L(-h), that is cDPO
  kRobust,   // ((1-e) L(h) - e L(-h)) / (1 - 2e): unbiased under a share e of flipped labels
  kIpo,      // (h - 1/(2 beta))^2
  kIpoMean,  // the same with means over tokens instead of sums
  kHinge,    // max(0, 1 - beta h)
  kSimpo,    // -log sigma(beta h - margin), h of means over tokens, no reference; smoothing as kDpo
  kOrpo,     // -beta log sigma(log odds ratio) - nll_coef * mean log pi(chosen); no reference
};

template <typename T>
struct DirectParams {
  DirectKind kind;
  T beta;             // IPO's tau, ORPO's lambda
  T label_smoothing;  // e in [0, 0.5)
  T margin;           // SimPO's gamma, in absolute units
  T nll_coef;         // weight of -log pi(chosen) / length
};

/// Whole responses: sums of log-probabilities and numbers of tokens (1 where a kind has no use for
/// them).
template <typename T>
struct DirectPair {
  T chosen, rejected, ref_chosen, ref_rejected;
  T length_chosen, length_rejected;
};

template <typename T>
struct DirectTerm {
  T loss;
  T d_chosen;  // d loss / d chosen
  T d_rejected;
  T reward_chosen;  // implicit reward: beta log pi/ref, of means where the kind has means
  T reward_rejected;
};

/// (1-e) softplus(-z) + e softplus(z), or with -e (robust), and its derivative.
template <typename T>
HONE_HD void smoothed_logistic(T z, T keep, T flip, T& value, T& derivative) {
  const LogisticTail<T> tail = logistic_tail(z);
  value = keep * softplus(-z, tail);
  derivative = -keep * logistic(-z, tail);
  if (flip != T(0)) {  // 0 * infinity would be NaN
    value += flip * softplus(z, tail);
    derivative += flip * logistic(z, tail);
  }
}

/// log(1 - e^x) for x < 0, branched at -ln 2 so that neither end cancels.
template <typename T>
HONE_HD T log1mexp(T x) {
  return x > T(-0.6931471805599453) ? std::log(-std::expm1(x)) : std::log1p(-std::exp(x));
}

template <typename T>
HONE_HD bool uses_means(DirectKind kind) {
  return kind == DirectKind::kIpoMean || kind == DirectKind::kSimpo || kind == DirectKind::kOrpo;
}

template <typename T>
HONE_HD DirectTerm<T> direct_term(const DirectPair<T>& pair, const DirectParams<T>& p) {
  const bool means = uses_means<T>(p.kind);
  const bool has_reference = p.kind != DirectKind::kSimpo && p.kind != DirectKind::kOrpo;
  const T scale_chosen = means ? T(1) / pair.length_chosen : T(1);
  const T scale_rejected = means ? T(1) / pair.length_rejected : T(1);
  const T u_chosen = (pair.chosen - (has_reference ? pair.ref_chosen : T(0))) * scale_chosen;
  const T u_rejected =
      (pair.rejected - (has_reference ? pair.ref_rejected : T(0))) * scale_rejected;
  DirectTerm<T> out{};
  out.reward_chosen = p.beta * u_chosen;
  out.reward_rejected = p.beta * u_rejected;
  const T h = u_chosen - u_rejected;
  const T keep = T(1) - p.label_smoothing, flip = p.label_smoothing;
  T slope = 0;  // d loss / d h
  T d_rejected = 0;
  switch (p.kind) {
    case DirectKind::kIpo:
    case DirectKind::kIpoMean: {
      const T error = h - T(1) / (T(2) * p.beta);
      out.loss = error * error;
      slope = T(2) * error;
      break;
    }
    case DirectKind::kHinge: {
      const T room = T(1) - p.beta * h;
      out.loss = room > T(0) || room != room ? room : T(0);
      slope = room > T(0) ? -p.beta : T(0);
      break;
    }
    case DirectKind::kOrpo: {
      // log odds = u - log(1 - e^u); d log odds / d u = 1 / (1 - e^u).
      const T odds = h - (log1mexp(u_chosen) - log1mexp(u_rejected));
      smoothed_logistic(odds, T(1), T(0), out.loss, slope);
      out.loss *= p.beta;
      out.d_chosen = p.beta * slope / -std::expm1(u_chosen);
      d_rejected = -p.beta * slope / -std::expm1(u_rejected);
      break;
    }
    case DirectKind::kRobust: {
      const T scale = T(1) / (T(1) - T(2) * p.label_smoothing);
      smoothed_logistic(p.beta * h, keep * scale, -flip * scale, out.loss, slope);
      slope *= p.beta;
      break;
    }
    case DirectKind::kDpo:
    case DirectKind::kSimpo:
      smoothed_logistic(p.beta * h - p.margin, keep, flip, out.loss, slope);
      slope *= p.beta;
      break;
  }
  if (p.kind != DirectKind::kOrpo) {
    out.d_chosen = slope;
    d_rejected = -slope;
  }
  out.d_chosen *= scale_chosen;
  out.d_rejected = d_rejected * scale_rejected;
  if (p.nll_coef != T(0)) {
    out.loss -= p.nll_coef * pair.chosen / pair.length_chosen;
    out.d_chosen -= p.nll_coef / pair.length_chosen;
  }
  return out;
}

template <typename T>
struct KtoParams {
  T beta;
  T desirable;    // lambda_D
  T undesirable;  // lambda_U
};

template <typename T>
struct KtoTerm {
  T loss;
  T derivative;  // d loss / d logp
  T reward;      // beta log pi/ref
};

/// lambda_D (1 - sigma(beta (u - z0))), or lambda_U (1 - sigma(beta (z0 - u))), u = log pi/ref and
/// z0 = max(0, kl), where kl is the mean of log pi/ref over mismatched pairs, a constant.
template <typename T>
HONE_HD KtoTerm<T> kto_term(T logp, T logp_ref, bool desirable, T kl, const KtoParams<T>& p) {
  const T u = logp - logp_ref;
  const T z0 = kl < T(0) ? T(0) : kl;
  const T sign = desirable ? T(1) : T(-1);
  const T lambda = desirable ? p.desirable : p.undesirable;
  const T miss = logistic(-sign * p.beta * (u - z0));  // 1 - sigma
  return {lambda * miss, -lambda * sign * p.beta * miss * (T(1) - miss), p.beta * u};
}

/// Sums in double in a fixed order; the fields after `loss` are the metrics, weighted.
/// A: what the sums are held in.
template <typename A>
struct DirectSumsIn {
  A loss = 0;
  A accuracy = 0;  // share of pairs whose chosen reward is the larger one, ties half
  A margin = 0;    // reward of the chosen minus that of the rejected
  A reward_chosen = 0;
  A reward_rejected = 0;

  static constexpr int64_t kMetrics = 4;

  template <typename T>
  HONE_HD void add(const DirectTerm<T>& term, T weight) {
    const A w = weight, difference = term.reward_chosen - term.reward_rejected;
    loss += w * term.loss;
    accuracy += difference > 0 ? w : (difference < 0 ? A(0) : A(0.5) * w);
    margin += w * difference;
    reward_chosen += w * term.reward_chosen;
    reward_rejected += w * term.reward_rejected;
  }
  template <typename B>
  HONE_HD void merge(const DirectSumsIn<B>& later) {
    loss += later.loss;
    accuracy += later.accuracy;
    margin += later.margin;
    reward_chosen += later.reward_chosen;
    reward_rejected += later.reward_rejected;
  }
  HONE_HD void store(double* metrics) const {
    const double all[kMetrics] = {accuracy, margin, reward_chosen, reward_rejected};
    for (int i = 0; i < kMetrics; ++i) metrics[i] = all[i];
  }
};
using DirectSums = DirectSumsIn<double>;

/// As DirectSums; weighted sums, so that a mean is `reward_desirable / weight_desirable`.
template <typename A>
struct KtoSumsIn {
  A loss = 0;
  A reward_desirable = 0;
  A reward_undesirable = 0;
  A weight_desirable = 0;
  A weight_undesirable = 0;

  static constexpr int64_t kMetrics = 4;

  template <typename T>
  HONE_HD void add(const KtoTerm<T>& term, bool desirable, T weight) {
    const A w = weight;
    loss += w * term.loss;
    (desirable ? reward_desirable : reward_undesirable) += w * term.reward;
    (desirable ? weight_desirable : weight_undesirable) += w;
  }
  template <typename B>
  HONE_HD void merge(const KtoSumsIn<B>& later) {
    loss += later.loss;
    reward_desirable += later.reward_desirable;
    reward_undesirable += later.reward_undesirable;
    weight_desirable += later.weight_desirable;
    weight_undesirable += later.weight_undesirable;
  }
  HONE_HD void store(double* metrics) const {
    const double all[kMetrics] = {reward_desirable, reward_undesirable, weight_desirable,
                                  weight_undesirable};
    for (int i = 0; i < kMetrics; ++i) metrics[i] = all[i];
  }
};
using KtoSums = KtoSumsIn<double>;

}  // namespace hone::kernels::math
