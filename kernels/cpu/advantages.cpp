#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/advantage_rows.h"
#include "kernels/cpu/advantage_span.h"

namespace hone::kernels {
namespace {

/// Shorter runs of trained entries go one by one: a vector's start costs as much.
constexpr int64_t kShortRun = 16;

/// First entry of the run of equal kept-ness that ends before `end`, not below `begin`.
int64_t run_begin(const uint8_t* mask, int64_t begin, int64_t end) {
  const bool kept = mask[end - 1] != 0;
  int64_t t = end - 1;
  while (t - 8 >= begin) {  // eight entries at a time
    uint64_t eight;
    std::memcpy(&eight, mask + t - 8, 8);
    constexpr uint64_t kOnes = 0x0101010101010101u, kTops = 0x8080808080808080u;
    const bool has_zero = ((eight - kOnes) & ~eight & kTops) != 0;
    if (kept ? has_zero : eight != 0) break;
    t -= 8;
  }
  while (t > begin && (mask[t - 1] != 0) == kept) --t;
  return t;
}

/// One sequence, last entry first.
template <class Rule, typename T>
class RowScan {
 public:
  RowScan(const math::AdvantageRows<T>& rows, int64_t row, const math::AdvantageParams<T>& p)
      : a_(rows), row_(row), p_(p), state_(Rule::start(rows.value_after(row))) {}

  math::AdvantageStats run() {
    const int64_t begin = a_.begin(row_), end = a_.end(row_);
    scored_ = math::score_entry(a_, row_, p_.after_last);
    if (scored_ < begin) {
      zero(begin, end);
      return stats_;
    }
    zero(scored_ + 1, end);
    one_by_one(scored_, scored_ + 1);
    const uint8_t* mask = a_.mask ? a_.mask.data + row_ * a_.mask.skew : nullptr;
    for (int64_t last = scored_; last > begin;) {
      const int64_t first = mask != nullptr ? run_begin(mask, begin, last) : begin;
      if (mask != nullptr && mask[first] == 0) {
        zero(first, last);
      } else if (last - first < kShortRun) {
        one_by_one(first, last);
      } else {
        span(first, last);
      }
      last = first;
    }
    return stats_;
  }

 private:
  void zero(int64_t first, int64_t last) {
    for (T* out : {a_.advantages, a_.returns, a_.rewards}) {
      if (out != nullptr) std::fill(out + first, out + last, T(0));
    }
  }

  void one_by_one(int64_t first, int64_t last) {
    for (int64_t t = last - 1; t >= first; --t) {
      const auto step = math::load_step(a_, row_, t, scored_, p_);
      math::store_step(a_, t, step, Rule::result(step, state_, p_), stats_);
      state_ = Rule::map(step, p_)(state_);
    }
  }

  void span(int64_t first, int64_t last) {
    const auto in = [&](const math::Column<const T>& x) {
      return x ? &x.at(row_, first) : nullptr;
    };
    advantage_span(Rule(),
                   {in(a_.logp_old), in(a_.logp_ref), in(a_.values), in(a_.token_rewards),
                    in(a_.logp_behaviour), a_.advantages + first, a_.returns + first,
                    a_.rewards != nullptr ? a_.rewards + first : nullptr, last - first},
                   p_, state_, stats_);
  }

  const math::AdvantageRows<T>& a_;
  const int64_t row_;
  const math::AdvantageParams<T>& p_;
  int64_t scored_ = -1;
  typename Rule::State state_;
  math::AdvantageStats stats_;
};

struct CpuAdvantages {
  static void run(const AdvantageInputs& in, const AdvantageSettings& settings,
                  const AdvantageOutputs& out) {
    std::vector<math::AdvantageStats> partial(static_cast<size_t>(in.sequences));
    AT_DISPATCH_FLOATING_TYPES(in.logp_old.scalar_type(), "advantages", [&] {
      const auto p = cast<scalar_t>(settings.params);
      const auto rows = advantage_rows<scalar_t>(in, out);
      // A thread gets at least 16k tokens, on average.
      const int64_t grain =
          std::max<int64_t>(1, in.sequences * 16384 / std::max<int64_t>(1, in.tokens));
      at::parallel_for(0, in.sequences, grain, [&](int64_t first, int64_t last) {
        // Last row first: memory then is walked in one direction, as its prefetchers expect.
        for (int64_t row = last - 1; row >= first; --row) {
          partial[static_cast<size_t>(row)] =
              settings.vtrace ? RowScan<math::Vtrace<scalar_t>, scalar_t>(rows, row, p).run()
                              : RowScan<math::Gae<scalar_t>, scalar_t>(rows, row, p).run();
        }
      });
    });
    math::AdvantageStats total;  // in the order of the sequences, whatever the threads
    for (const auto& row : partial) total.merge(row);
    if (!std::isfinite(total.sum + total.squares + total.kl)) refuse_non_finite(in, settings);
    total.store(out.stats.mutable_data_ptr<double>());
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) { m.impl("advantages_into", &advantages_into_op<CpuAdvantages>); }

}  // namespace hone::kernels
