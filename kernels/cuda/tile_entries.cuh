#pragma once

// The entries of a tile as steps, in registers: loading, masks, and where scores go.

#include <cstdint>

#include "kernels/cuda/row_marks.cuh"
#include "kernels/cuda/tile_runs.cuh"
#include "kernels/math/advantages.h"

namespace hone::kernels::cuda {

enum class Layout {
  kAll,     // every entry is trained: a score stands where its row ends
  kMasked,  // a mask; columns without gaps
  kByRow,   // lengths, or rows with gaps between them: an entry is found by its row
};

template <typename T>
Layout layout_of(const math::AdvantageRows<T>& rows) {
  const int64_t gaps = rows.logp_old.skew | rows.logp_ref.skew | rows.values.skew |
                       rows.token_rewards.skew | rows.logp_behaviour.skew | rows.mask.skew;
  if (gaps != 0 || rows.lengths != nullptr) return Layout::kByRow;
  return rows.mask ? Layout::kMasked : Layout::kAll;
}

/// May whole runs be copied, loaded and stored as vectors?
template <typename T>
bool are_wide(const math::AdvantageRows<T>& rows) {
  constexpr int kWidth = kRunWidth<T>;
  const auto column = [](const math::Column<const T>& x) {
    return x.skew == 0 && device::is_aligned<kWidth>(x.data);
  };
  return column(rows.logp_old) && column(rows.logp_ref) && column(rows.values) &&
         column(rows.token_rewards) && column(rows.logp_behaviour) && rows.mask.skew == 0 &&
         device::is_aligned<kRun>(rows.mask.data) && device::is_aligned<kWidth>(rows.advantages) &&
         device::is_aligned<kWidth>(rows.returns) && device::is_aligned<kWidth>(rows.rewards);
}

/// Which entries of a stretch of time are trained, as far as the row that reaches out of it at its
/// earlier end is concerned: bit 0, one of that row; bit 1, the row ends inside the stretch.
enum Stretch : uint32_t { kOneTrained = 1, kRowEnds = 2 };

struct JoinStretches {
  HONE_DEVICE uint32_t operator()(uint32_t later, uint32_t earlier) const {
    return (earlier & kRowEnds) != 0 ? earlier : earlier | later;
  }
};

/// The mark that is seen first, looking from an entry to later ones.
struct NearestMark {
  HONE_DEVICE uint32_t operator()(uint32_t later, uint32_t earlier) const {
    return earlier != 0 ? earlier : later;
  }
};

/// Is an entry of `row` trained from `t` on? The whole block asks, 4096 entries at a time.
template <typename T>
HONE_DEVICE bool trained_from(const math::AdvantageRows<T>& rows, int64_t row, int64_t t) {
  constexpr int kLooks = 16;
  for (const int64_t end = rows.trained_end(row); t < end; t += kTileThreads * kLooks) {
    int any = 0;
    HONE_UNROLL
    for (int i = 0; i < kLooks; ++i) {
      const int64_t at = t + i * kTileThreads + device::thread_index();
      if (at < end && (!rows.mask || rows.mask.at(row, at) != 0)) any = 1;
    }
    if (device::block_reduce<kTileThreads>(any, device::Larger{}) != 0) return true;
  }
  return false;
}

/// The steps of a thread's entries. kWide: the tile is whole and its columns are aligned.
template <typename T, Layout kLayout, bool kWide>
class TileEntries {
 public:
  HONE_DEVICE TileEntries(const math::AdvantageRows<T>& rows, const math::AdvantageParams<T>& p,
                          int64_t begin)
      : rows_(rows), p_(p), begin_(begin) {}

  /// Starts the loads of the usual columns: all are in flight before the first is waited for.
  HONE_DEVICE void ask() {
    if constexpr (kLayout != Layout::kByRow || kWide) {
      const auto ask_for = [&](const auto& column, auto& runs) {
        HONE_UNROLL
        for (int s = 0; s < kRuns; ++s) runs[s] = run_of(column, s);
      };
      if constexpr (kLayout == Layout::kMasked) ask_for(rows_.mask, mask_);
      if (rows_.logp_ref || rows_.logp_behaviour) ask_for(rows_.logp_old, old_);
      if (rows_.logp_ref) ask_for(rows_.logp_ref, ref_);
      if (rows_.values) ask_for(rows_.values, value_);
    }
  }

  /// Steps without scores, where they do not depend on rows. Adds their KL.
  HONE_DEVICE void load(double& kl) {
    if constexpr (kLayout != Layout::kByRow) {
      HONE_UNROLL
      for (int s = 0; s < kRuns; ++s) {
        HONE_UNROLL
        for (int k = 0; k < kRun; ++k) {
          const bool kept = kLayout != Layout::kMasked || mask_[s][k] != 0;
          if (kept && (kWide || at(s, k) < rows_.tokens)) trained_ |= bit(s, k);
        }
      }
      takes_part_ = trained_;
      load_columns(kl);
    }
  }

  /// Adds the scores, and does whatever else needs the rows. All threads; the marks are there.
  HONE_DEVICE void place(const RowMarks& marks, int64_t end, double& kl) {
    if constexpr (kLayout == Layout::kAll) {
      HONE_UNROLL
      for (int s = 0; s < kRuns; ++s) {
        const auto ends = marks.of_run(s);
        if ((ends[0] | ends[1] | ends[2] | ends[3]) == 0) continue;
        with_ends_ |= 1u << s;
        if (rows_.scores == nullptr) continue;
        HONE_UNROLL
        for (int k = 0; k < kRun; ++k) {
          if (ends[k] != 0) reward_[s][k] += rows_.scores[marks.row(ends[k])];
        }
      }
    } else {
      place_by_row(marks, end, kl);
    }
  }

  HONE_DEVICE math::AdvantageStep<T> step(int s, int k) const {
    if constexpr (kLayout == Layout::kAll && kWide) {
      return {reward_[s][k], value_[s][k], T(0), log_ratio_[s][k], true, true};
    }
    return {reward_[s][k],
            value_[s][k],
            T(0),
            log_ratio_[s][k],
            (trained_ & bit(s, k)) != 0,
            (takes_part_ & bit(s, k)) != 0};
  }

  /// Does a row end in run s?
  HONE_DEVICE bool with_ends(int s) const { return (with_ends_ >> s & 1u) != 0; }

  HONE_DEVICE int trained_count() const {
    if constexpr (kLayout == Layout::kAll && kWide) return kRuns * kRun;
    int count = 0;
    HONE_UNROLL
    for (int i = 0; i < kRuns * kRun; ++i) count += static_cast<int>(trained_ >> i & 1u);
    return count;
  }

 private:
  HONE_DEVICE static constexpr uint32_t bit(int s, int k) { return 1u << (s * kRun + k); }
  HONE_DEVICE int64_t at(int s, int k) const { return begin_ + run_begin(s) + k; }

  template <typename E>
  HONE_DEVICE Run<E> run_of(const math::Column<const E>& column, int s) const {
    if constexpr (kWide) {
      return whole_run<E>(column.data, at(s, 0));
    } else {
      return part_of_run(column.data, at(s, 0), rows_.tokens);
    }
  }

  /// The usual columns and the estimator are known to the compiler: no questions within the loop.
  HONE_DEVICE void load_columns(double& kl) {
    using math::KlEstimator;
    math::AdvantageParams<T> p = p_;
    const math::GivenColumns given = math::given_columns(rows_);
    if (!given.logp_ref || !given.values || given.token_rewards || given.logp_behaviour) {
      return load_steps(given, p, kl);
    }
    constexpr math::GivenColumns kUsual{true, false, false, true};
    const auto with = [&](KlEstimator estimator) {
      p.kl_estimator = estimator;
      load_steps(kUsual, p, kl);
    };
    switch (p.kl_estimator) {
      case KlEstimator::kK1:
        return with(KlEstimator::kK1);
      case KlEstimator::kK2:
        return with(KlEstimator::kK2);
      case KlEstimator::kK3:
        return with(KlEstimator::kK3);
      case KlEstimator::kAbs:
        return with(KlEstimator::kAbs);
    }
  }

  HONE_DEVICE void load_steps(const math::GivenColumns& given, const math::AdvantageParams<T>& p,
                              double& kl) {
    HONE_UNROLL
    for (int s = 0; s < kRuns; ++s) {
      Run<T> rewards{}, behaviour{};
      if (given.token_rewards) rewards = run_of(rows_.token_rewards, s);
      if (given.logp_behaviour) behaviour = run_of(rows_.logp_behaviour, s);
      HONE_UNROLL
      for (int k = 0; k < kRun; ++k) {
        const math::AdvantageEntry<T> entry{old_[s][k], ref_[s][k], behaviour[k], rewards[k],
                                            value_[s][k]};
        keep(s, k, math::entry_step(entry, given, true, p), kl);
      }
    }
  }

  HONE_DEVICE void keep(int s, int k, const math::AdvantageStep<T>& step, double& kl) {
    const bool taken = (kLayout == Layout::kAll && kWide) || (trained_ & bit(s, k)) != 0;
    reward_[s][k] = taken ? step.reward : T(0);
    value_[s][k] = taken ? step.value : T(0);
    log_ratio_[s][k] = taken ? step.log_ratio : T(0);
    if (taken) kl = math::separate_sum(kl, step.kl);
  }

  /// visit(k, row, ends) for the entries of run s from the latest on; `seen` entered it.
  template <typename Visit>
  HONE_DEVICE static void walk(const RowMarks& marks, int s, uint32_t seen, Visit visit) {
    const auto ends = marks.of_run(s);
    HONE_UNROLL
    for (int k = kRun - 1; k >= 0; --k) {
      if (ends[k] != 0) seen = ends[k];
      visit(k, marks.row(seen), ends[k] != 0);
    }
  }

  HONE_DEVICE void place_by_row(const RowMarks& marks, int64_t end, double& kl) {
    const int64_t last_row = marks.bound[1];
    uint32_t nearest[kRuns], seen[kRuns];
    HONE_UNROLL
    for (int s = 0; s < kRuns; ++s) {
      const auto ends = marks.of_run(s);
      nearest[s] = 0;
      HONE_UNROLL
      for (int k = kRun - 1; k >= 0; --k) nearest[s] = NearestMark{}(nearest[s], ends[k]);
      if (nearest[s] != 0) with_ends_ |= 1u << s;
    }
    const auto after_tile = static_cast<uint32_t>(last_row - marks.row(0));
    const auto apply = [](uint32_t own, uint32_t later) { return NearestMark{}(later, own); };
    run_scan(nearest, 0u, NearestMark{}).each(after_tile, apply, [&](int s, uint32_t entering) {
      seen[s] = entering;
    });
    if constexpr (kLayout == Layout::kByRow) load_by_row(marks, seen, kl);
    if (rows_.scores != nullptr || p_.after_last) place_scores(marks, seen, last_row, end);
  }

  HONE_DEVICE void load_by_row(const RowMarks& marks, const uint32_t (&seen)[kRuns], double& kl) {
    HONE_UNROLL
    for (int s = 0; s < kRuns; ++s) {
      walk(marks, s, seen[s], [&](int k, int64_t row, bool) {
        const int64_t t = at(s, k);
        const bool trained = t < rows_.tokens && rows_.trained(row, t);
        if (trained) trained_ |= bit(s, k);
        if constexpr (!kWide) {
          math::AdvantageStep<T> step{T(0), T(0), T(0), T(0), false, false};
          if (trained) step = math::load_step(rows_, row, t, -1, p_);
          keep(s, k, step, kl);
        }
      });
    }
    takes_part_ = trained_;
    if constexpr (kWide) load_columns(kl);
  }

  HONE_DEVICE void place_scores(const RowMarks& marks, const uint32_t (&seen)[kRuns],
                                int64_t last_row, int64_t end) {
    uint32_t stretch[kRuns];
    HONE_UNROLL
    for (int s = 0; s < kRuns; ++s) {
      const auto ends = marks.of_run(s);
      stretch[s] = 0;
      HONE_UNROLL
      for (int k = kRun - 1; k >= 0; --k) {
        if (ends[k] != 0) stretch[s] = kRowEnds;
        if ((trained_ & bit(s, k)) != 0) stretch[s] |= kOneTrained;
      }
    }
    const bool beyond = end < rows_.end(last_row) && trained_from(rows_, last_row, end);
    const auto apply = [](uint32_t own, uint32_t later) { return JoinStretches{}(later, own); };
    run_scan(stretch, 0u, JoinStretches{})
        .each(beyond ? uint32_t{kOneTrained} : 0u, apply, [&](int s, uint32_t entering) {
          bool later = (entering & kOneTrained) != 0;
          walk(marks, s, seen[s], [&](int k, int64_t row, bool ends) {
            if (ends) later = false;
            if (!later && at(s, k) < rows_.tokens) place_score(s, k, row);
            if ((trained_ & bit(s, k)) != 0) later = true;
          });
        });
  }

  /// No later entry of the row is trained.
  HONE_DEVICE void place_score(int s, int k, int64_t row) {
    const int64_t t = at(s, k);
    const bool trained = (trained_ & bit(s, k)) != 0;
    if (!math::is_scored(rows_, row, t, trained, false, p_.after_last)) return;
    if (trained) {
      if (rows_.scores != nullptr) reward_[s][k] += rows_.scores[row];
      return;
    }
    const auto step = math::load_step(rows_, row, t, t, p_);
    reward_[s][k] = step.reward;
    value_[s][k] = step.value;
    log_ratio_[s][k] = T(0);
    takes_part_ |= bit(s, k);
  }

  const math::AdvantageRows<T>& rows_;
  const math::AdvantageParams<T>& p_;
  int64_t begin_;
  uint32_t trained_ = 0, takes_part_ = 0;  // bit s * kRun + k
  uint32_t with_ends_ = 0;                 // bit s
  Run<uint8_t> mask_[kRuns];
  Run<T> old_[kRuns], ref_[kRuns], value_[kRuns], reward_[kRuns], log_ratio_[kRuns];
};

}  // namespace hone::kernels::cuda
