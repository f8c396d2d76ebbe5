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

/// May whole runs be loaded and stored as vectors?
template <typename T>
bool are_wide(const math::AdvantageRows<T>& rows) {
  constexpr int kWidth = sizeof(T) * kRun <= 16 ? kRun : device::kVectorWidth<T>;
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

template <typename T, Layout kLayout>
class TileEntries {
 public:
  /// `begin`: of the tile. `wide`: it is whole and its columns are aligned.
  HONE_DEVICE TileEntries(const math::AdvantageRows<T>& rows, const math::AdvantageParams<T>& p,
                          int64_t begin, bool wide)
      : rows_(rows), p_(p), begin_(begin), wide_(wide) {}

  /// Steps without scores; for kByRow, `place` does it.
  HONE_DEVICE void load(math::AdvantageStats& stats) {
    HONE_UNROLL
    for (int s = 0; s < kRuns; ++s) mark_trained(s);
    if (wide_) {
      load_columns<true>(stats);
    } else {
      load_columns<false>(stats);
    }
  }

  /// Adds the scores, and whatever else needs the rows. All threads; the marks are there.
  HONE_DEVICE void place(const RowMarks& marks, int64_t end, math::AdvantageStats& stats) {
    if constexpr (kLayout == Layout::kAll) {
      if (rows_.scores == nullptr) return;
      HONE_UNROLL
      for (int s = 0; s < kRuns; ++s) {
        const auto ends = marks.of_run(s);
        HONE_UNROLL
        for (int k = 0; k < kRun; ++k) {
          if (ends[k] != 0) reward_[s][k] += rows_.scores[marks.row(ends[k])];
        }
      }
    } else {
      place_by_row(marks, end, stats);
    }
  }

  HONE_DEVICE math::AdvantageStep<T> step(int s, int k) const {
    return {reward_[s][k], value_[s][k], T(0), log_ratio_[s][k], has(trained_, s, k),
            has(takes_part_, s, k)};
  }

 private:
  HONE_DEVICE static bool has(uint32_t bits, int s, int k) {
    return (bits >> (s * kRun + k) & 1u) != 0;
  }
  HONE_DEVICE int64_t at(int s, int k) const { return begin_ + run_begin(s) + k; }

  /// Where rows are not needed to know.
  HONE_DEVICE void mark_trained(int s) {
    Run<uint8_t> kept{{1, 1, 1, 1}};
    if constexpr (kLayout == Layout::kMasked) {
      kept = wide_ ? load_run<true>(rows_.mask.data, at(s, 0), rows_.tokens)
                   : load_run<false>(rows_.mask.data, at(s, 0), rows_.tokens);
    }
    HONE_UNROLL
    for (int k = 0; k < kRun; ++k) {
      if (kept[k] != 0 && (wide_ || at(s, k) < rows_.tokens)) trained_ |= 1u << (s * kRun + k);
    }
    takes_part_ = trained_;
  }

  template <bool kWide>
  HONE_DEVICE void load_column(const math::Column<const T>& column, Run<T> (&runs)[kRuns]) const {
    HONE_UNROLL
    for (int s = 0; s < kRuns; ++s) {
      if (column) runs[s] = load_run<kWide>(column.data, at(s, 0), rows_.tokens);
    }
  }

  /// Loads of all columns, then the steps: so much is in flight at once.
  template <bool kWide>
  HONE_DEVICE void load_columns(math::AdvantageStats& stats) {
    Run<T> old[kRuns], ref[kRuns], values[kRuns], rewards[kRuns], behaviour[kRuns];
    const bool ratios = rows_.logp_ref || rows_.logp_behaviour;
    if (ratios) load_column<kWide>(rows_.logp_old, old);
    load_column<kWide>(rows_.logp_ref, ref);
    load_column<kWide>(rows_.values, values);
    load_column<kWide>(rows_.token_rewards, rewards);
    load_column<kWide>(rows_.logp_behaviour, behaviour);
    HONE_UNROLL
    for (int s = 0; s < kRuns; ++s) {
      HONE_UNROLL
      for (int k = 0; k < kRun; ++k) {
        const math::AdvantageEntry<T> entry{old[s][k], ref[s][k], behaviour[s][k], rewards[s][k],
                                            values[s][k]};
        keep(s, k, math::entry_step(rows_, entry, true, p_), has(trained_, s, k), stats);
      }
    }
  }

  HONE_DEVICE void keep(int s, int k, const math::AdvantageStep<T>& step, bool taken,
                        math::AdvantageStats& stats) {
    reward_[s][k] = taken ? step.reward : T(0);
    value_[s][k] = taken ? step.value : T(0);
    log_ratio_[s][k] = taken ? step.log_ratio : T(0);
    if (taken) stats.kl += step.kl;
  }

  /// visit(s, k, row, ends) for the entries of run s from the latest on; `seen` entered it.
  template <typename Visit>
  HONE_DEVICE static void walk(const RowMarks& marks, int s, uint32_t seen, Visit visit) {
    const auto ends = marks.of_run(s);
    HONE_UNROLL
    for (int k = kRun - 1; k >= 0; --k) {
      if (ends[k] != 0) seen = ends[k];
      visit(k, marks.row(seen), ends[k] != 0);
    }
  }

  HONE_DEVICE void place_by_row(const RowMarks& marks, int64_t end, math::AdvantageStats& stats) {
    const int64_t last_row = marks.last[0];
    uint32_t nearest[kRuns], seen[kRuns];
    HONE_UNROLL
    for (int s = 0; s < kRuns; ++s) {
      nearest[s] = 0;
      walk(marks, s, 0, [&](int k, int64_t, bool ends) {
        if (ends) nearest[s] = marks.of_run(s)[k];
      });
    }
    const auto later_mark = static_cast<uint32_t>(last_row - marks.low + 1);
    run_scan(nearest, 0u, NearestMark{}).each(later_mark, [](uint32_t own, uint32_t later) {
      return NearestMark{}(later, own);
    }, [&](int s, uint32_t mark) { seen[s] = mark; });

    if constexpr (kLayout == Layout::kByRow) {
      HONE_UNROLL
      for (int s = 0; s < kRuns; ++s) {
        walk(marks, s, seen[s], [&](int k, int64_t row, bool) {
          const int64_t t = at(s, k);
          if (t < rows_.tokens && rows_.trained(row, t)) trained_ |= 1u << (s * kRun + k);
        });
      }
      takes_part_ = trained_;
      if (wide_) {
        load_columns<true>(stats);
      } else {
        HONE_UNROLL
        for (int s = 0; s < kRuns; ++s) {
          walk(marks, s, seen[s], [&](int k, int64_t row, bool) {
            const bool trained = has(trained_, s, k);
            math::AdvantageStep<T> step{T(0), T(0), T(0), T(0), false, false};
            if (trained) step = math::load_step(rows_, row, at(s, k), -1, p_);
            keep(s, k, step, trained, stats);
          });
        }
      }
    }
    if (rows_.scores == nullptr && !p_.after_last) return;

    uint32_t stretch[kRuns];
    HONE_UNROLL
    for (int s = 0; s < kRuns; ++s) {
      stretch[s] = 0;
      walk(marks, s, 0, [&](int k, int64_t, bool ends) {
        if (ends) stretch[s] = kRowEnds;
        if (has(trained_, s, k)) stretch[s] |= kOneTrained;
      });
    }
    const bool beyond = end < rows_.end(last_row) && trained_from(rows_, last_row, end);
    run_scan(stretch, 0u, JoinStretches{}).each(beyond ? uint32_t{kOneTrained} : 0u, [](uint32_t own, uint32_t later) {
      return JoinStretches{}(later, own);
    }, [&](int s, uint32_t entering) {
      bool later = (entering & kOneTrained) != 0;
      walk(marks, s, seen[s], [&](int k, int64_t row, bool ends) {
        if (ends) later = false;
        if (!later && at(s, k) < rows_.tokens) place_score(s, k, row);
        if (has(trained_, s, k)) later = true;
      });
    });
  }

  /// No later entry of the row is trained.
  HONE_DEVICE void place_score(int s, int k, int64_t row) {
    const int64_t t = at(s, k);
    const bool trained = has(trained_, s, k);
    if (!math::is_scored(rows_, row, t, trained, false, p_.after_last)) return;
    if (trained) {
      if (rows_.scores != nullptr) reward_[s][k] += rows_.scores[row];
      return;
    }
    const auto step = math::load_step(rows_, row, t, t, p_);
    reward_[s][k] = step.reward;
    value_[s][k] = step.value;
    log_ratio_[s][k] = T(0);
    takes_part_ |= 1u << (s * kRun + k);
  }

  const math::AdvantageRows<T>& rows_;
  const math::AdvantageParams<T>& p_;
  int64_t begin_;
  bool wide_;
  uint32_t trained_ = 0, takes_part_ = 0;  // bit s * kRun + k
  T reward_[kRuns][kRun], value_[kRuns][kRun], log_ratio_[kRuns][kRun];
};

}  // namespace hone::kernels::cuda
