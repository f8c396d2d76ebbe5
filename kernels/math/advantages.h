#pragma once

// Advantages and returns of token streams: what one entry contributes, whatever the recursion over
// time (kernels/math/gae.h, kernels/math/vtrace.h). CPU loops and CUDA kernels walk the rows.

#include <cstdint>

#include "kernels/math/host_device.h"
#include "kernels/math/kl.h"

namespace hone::kernels::math {

template <typename T>
struct AdvantageParams {
  T kl_coef;
  T kl_clamp;  // |logp_old - logp_ref| is clamped to this; infinity = off
  T gamma;
  T lambda;
  KlEstimator kl_estimator;
  bool after_last;  // the score goes to the entry after the last trained one, where there is one
  T rho_clip;       // V-trace: bounds of the importance ratio, infinity = off
  T c_clip;
};

/// The estimate that is charged kl_coef each inside the reward.
template <typename T>
HONE_HD T kl_penalty(T logp_old, T logp_ref, const AdvantageParams<T>& p) {
  const T d = logp_old - logp_ref;
  const T capped = d > p.kl_clamp ? p.kl_clamp : d;
  const T held = capped < -p.kl_clamp ? -p.kl_clamp : capped;
  return kl_term(held, p.kl_estimator).value;
}

/// A per-token array. Entries are numbered through the batch: t runs on from row to row. A padded
/// array whose rows lie `stride` apart and are `width` long has skew = stride - width; 0 where rows
/// follow each other, as in a packed stream.
template <typename T>
struct Column {
  T* data = nullptr;  // null: not given
  int64_t skew = 0;

  HONE_HD explicit operator bool() const { return data != nullptr; }
  HONE_HD T& at(int64_t row, int64_t t) const { return data[t + row * skew]; }
};

/// The arrays of a batch: packed rows between cu_seqlens, or rows of one width. Outputs are written
/// at t of the batch's own numbering, without skew.
template <typename T>
struct AdvantageRows {
  Column<const T> logp_old, logp_ref, values, token_rewards, logp_behaviour;
  Column<const uint8_t> mask;
  const T* scores;            // [B] or null: zeros
  const T* bootstrap_values;  // [B] or null: zeros
  const int64_t* cu_seqlens;  // [B+1], or null: rows of `width`
  const int64_t* lengths;     // [B] or null: entries of a row from this one on are masked
  int64_t width;
  T* advantages;
  T* returns;
  T* rewards;         // or null: not wanted
  int64_t tokens;     // N, or B*T
  int64_t sequences;  // B

  HONE_HD int64_t begin(int64_t row) const {
    return cu_seqlens != nullptr ? cu_seqlens[row] : row * width;
  }
  HONE_HD int64_t end(int64_t row) const { return begin(row + 1); }

  /// End of the entries that may be trained: the row's own, cut at its length.
  HONE_HD int64_t trained_end(int64_t row) const {
    const int64_t whole = end(row);
    if (lengths == nullptr) return whole;
    const int64_t cut = begin(row) + (lengths[row] > 0 ? lengths[row] : 0);
    return cut < whole ? cut : whole;
  }
  HONE_HD bool trained(int64_t row, int64_t t) const {
    return (!mask || mask.at(row, t) != 0) && (lengths == nullptr || t < trained_end(row));
  }
  /// Value after the last entry of a row: 0, because texts end, unless the caller knows better.
  HONE_HD T value_after(int64_t row) const {
    return bootstrap_values != nullptr ? bootstrap_values[row] : T(0);
  }
};

/// The entry of a row that receives its score, or -1 when none is trained.
template <typename T>
HONE_HD int64_t score_entry(const AdvantageRows<T>& a, int64_t row, bool after_last) {
  const int64_t begin = a.begin(row), end = a.end(row);
  int64_t last = a.trained_end(row) - 1;
  if (a.mask) {
    while (last >= begin && a.mask.at(row, last) == 0) --last;
  }
  if (last < begin) return -1;
  return after_last && last + 1 < end ? last + 1 : last;
}

/// Is entry t the one that score_entry finds? `later`: an entry of the row after t is trained.
template <typename T>
HONE_HD bool is_scored(const AdvantageRows<T>& a, int64_t row, int64_t t, bool trained, bool later,
                       bool after_last) {
  if (later) return false;
  if (trained) return !after_last || t + 1 == a.end(row);
  return after_last && t > a.begin(row) && a.trained(row, t - 1);
}

template <typename T>
struct AdvantageStep {
  T reward, value, kl;
  T log_ratio;      // log pi_old - log pi_behaviour
  bool trained;     // mask = 1: has a KL, an advantage and a place in the statistics
  bool takes_part;  // trained, or the entry after the last one that holds the score
};

/// Which of the arrays that may be absent are there.
struct GivenColumns {
  bool logp_ref, logp_behaviour, token_rewards, values;
};

template <typename T>
HONE_HD GivenColumns given_columns(const AdvantageRows<T>& a) {
  return {static_cast<bool>(a.logp_ref), static_cast<bool>(a.logp_behaviour),
          static_cast<bool>(a.token_rewards), static_cast<bool>(a.values)};
}

/// The inputs of one entry; those that are not given are not looked at.
template <typename T>
struct AdvantageEntry {
  T logp_old, logp_ref, logp_behaviour, token_reward, value;
};

/// The step of an entry that takes part, without the score.
template <typename T>
HONE_HD AdvantageStep<T> entry_step(const AdvantageEntry<T>& entry, const GivenColumns& given,
                                    bool trained, const AdvantageParams<T>& p) {
  AdvantageStep<T> step{T(0), T(0), T(0), T(0), trained, true};
  if (trained) {
    if (given.logp_ref) step.kl = kl_penalty(entry.logp_old, entry.logp_ref, p);
    step.reward = -p.kl_coef * step.kl;
    if (given.logp_behaviour) step.log_ratio = entry.logp_old - entry.logp_behaviour;
  }
  if (given.token_rewards) step.reward += entry.token_reward;
  if (given.values) step.value = entry.value;
  return step;
}

/// Entry t of sequence `row`, whose score stands at `scored`. Inputs of entries that do not take
/// part are not read.
template <typename T>
HONE_HD AdvantageStep<T> load_step(const AdvantageRows<T>& a, int64_t row, int64_t t,
                                   int64_t scored, const AdvantageParams<T>& p) {
  const bool trained = a.trained(row, t);
  if (!trained && t != scored) return {T(0), T(0), T(0), T(0), false, false};
  AdvantageEntry<T> entry{T(0), T(0), T(0), T(0), T(0)};
  if (trained && (a.logp_ref || a.logp_behaviour)) entry.logp_old = a.logp_old.at(row, t);
  if (trained && a.logp_ref) entry.logp_ref = a.logp_ref.at(row, t);
  if (trained && a.logp_behaviour) entry.logp_behaviour = a.logp_behaviour.at(row, t);
  if (a.token_rewards) entry.token_reward = a.token_rewards.at(row, t);
  if (a.values) entry.value = a.values.at(row, t);
  AdvantageStep<T> step = entry_step(entry, given_columns(a), trained, p);
  if (t == scored && a.scores != nullptr) step.reward += a.scores[row];
  return step;
}

/// sum + term, never fused with a product that made the term: the bits must not depend on where the
/// compiler finds one to fuse, here in one way of loading a tile and there in another.
HONE_HD double separate_sum(double sum, double term) {
#if defined(__CUDA_ARCH__)
  return __dadd_rn(sum, term);
#else
  return sum + term;
#endif
}

/// Whitening sums in double; the fields in the order of the `stats` tensor.
struct AdvantageStats {
  double sum = 0;
  double squares = 0;
  double count = 0;
  double kl = 0;

  HONE_HD void merge(const AdvantageStats& later) {
    sum += later.sum;
    squares += later.squares;
    count += later.count;
    kl += later.kl;
  }

  /// The `stats` tensor.
  HONE_HD void store(double* stats) const {
    stats[0] = sum;
    stats[1] = squares;
    stats[2] = count;
    stats[3] = kl;
  }
};

/// What a step leaves: R_t and A_t.
template <typename T>
struct AdvantageResult {
  T target, advantage;
};

/// What stands in the outputs after a step, and its part of sum and squares.
template <typename T>
HONE_HD AdvantageResult<T> settle(const AdvantageStep<T>& step, const AdvantageResult<T>& result,
                                  AdvantageStats& stats) {
  if (step.trained) {
    stats.sum = separate_sum(stats.sum, result.advantage);  // V-trace's is a product
    stats.squares =
        separate_sum(stats.squares, static_cast<double>(result.advantage) * result.advantage);
  }
  return {step.takes_part ? result.target : T(0), step.trained ? result.advantage : T(0)};
}

template <typename T>
HONE_HD void store_step(const AdvantageRows<T>& a, int64_t t, const AdvantageStep<T>& step,
                        const AdvantageResult<T>& result, AdvantageStats& stats) {
  const AdvantageResult<T> out = settle(step, result, stats);
  if (a.rewards != nullptr) a.rewards[t] = step.reward;
  a.returns[t] = out.target;
  a.advantages[t] = out.advantage;
  if (!step.trained) return;
  stats.count += 1;
  stats.kl = separate_sum(stats.kl, step.kl);
}

/// The map of one entry under `Rule` (Gae or Vtrace) from the state after it to the state before
/// it. A masked entry is the identity: its neighbours see each other as if it were not there.
/// `ends_row`: nothing flows in from the next sequence.
template <typename Rule, typename T>
HONE_HD typename Rule::Map entry_map(const AdvantageRows<T>& a, int64_t row,
                                     const AdvantageStep<T>& step, bool ends_row,
                                     const AdvantageParams<T>& p) {
  const typename Rule::Map map = step.takes_part ? Rule::map(step, p) : Rule::identity();
  return ends_row ? compose(Rule::constant(Rule::start(a.value_after(row))), map) : map;
}

}  // namespace hone::kernels::math
