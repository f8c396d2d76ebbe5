#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <type_traits>
#include <vector>

#include "kernels/cpu/fixed_order_sum.h"
#include "kernels/cpu/loss_rows.h"
#include "kernels/inputs.h"
#include "kernels/math/whitening.h"
#include "kernels/options.h"
#include "kernels/recycled.h"

namespace hone::kernels {
namespace {

/// math::MomentSums of a block, in independent running sums, so that the additions do not wait for
/// each other. `kept` [size] or null: all count.
template <typename T>
math::MomentSums moments_of(const T* x, const uint8_t* kept, int64_t size) {
  if constexpr (std::is_same_v<T, float>) {
    if (kept == nullptr) return moment_rows(x, size);
  }
  constexpr int64_t kLanes = 16;
  double sum[kLanes] = {}, squares[kLanes] = {};
  int64_t count = 0;
  const auto add = [&](int64_t i, int64_t lane) {
    const bool counts = kept == nullptr || kept[i] != 0;
    const double value = counts ? static_cast<double>(x[i]) : 0.0;
    sum[lane] += value;
    squares[lane] += value * value;
    count += counts;
  };
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) add(i + lane, lane);
  }
  for (; i < size; ++i) add(i, i % kLanes);
  math::MomentSums total{0, 0, static_cast<double>(count)};
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    total.sum += sum[lane];
    total.squares += squares[lane];
  }
  return total;
}

at::Tensor moments_cpu(const at::Tensor& x, const OptionalTensor& mask) {
  const MomentInputs in = check_moments(x, mask);
  const uint8_t* kept = in.mask.defined() ? in.mask.const_data_ptr<uint8_t>() : nullptr;
  const math::MomentSums total = AT_DISPATCH_FLOATING_TYPES(in.x.scalar_type(), "moments", [&] {
    const scalar_t* data = in.x.const_data_ptr<scalar_t>();
    return sum_in_blocks<math::MomentSums>(
        in.x.numel(), [&](math::MomentSums& m, int64_t begin, int64_t end) {
          m = moments_of(data + begin, kept != nullptr ? kept + begin : nullptr, end - begin);
        });
  });
  const at::Tensor stats = at::empty({4}, in.x.options().dtype(at::kDouble));
  double* out = stats.mutable_data_ptr<double>();
  out[0] = total.sum;
  out[1] = total.squares;
  out[2] = total.count;
  out[3] = 0;
  return stats;
}

at::Tensor whiten_cpu(const at::Tensor& x, const at::Tensor& stats, bool unbiased,
                      bool shift_mean) {
  const WhitenInputs in = check_whiten(x, stats);
  const auto map = math::whitening(in.stats.const_data_ptr<double>(), unbiased, shift_mean);
  const at::Tensor out = recycled_empty(in.x.sizes(), in.x.options());
  AT_DISPATCH_FLOATING_TYPES(in.x.scalar_type(), "whiten", [&] {
    const scalar_t* from = in.x.const_data_ptr<scalar_t>();
    scalar_t* to = out.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, in.x.numel(), 32768, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) to[i] = map(from[i]);
    });
  });
  return out;
}

/// Whitens the centred scores of REINFORCE++ over the batch.
math::Whitening batch_whitening(const std::vector<double>& centred, const GroupInputs& in,
                                bool unbiased) {
  const int64_t* times =
      in.token_counts.defined() ? in.token_counts.const_data_ptr<int64_t>() : nullptr;
  const auto total = sum_in_blocks<math::MomentSums>(
      static_cast<int64_t>(centred.size()), [&](math::MomentSums& m, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          m.add(centred[static_cast<size_t>(i)],
                times != nullptr ? static_cast<double>(times[i]) : 1.0);
        }
      });
  const double stats[] = {total.sum, total.squares, total.count};
  return math::whitening(stats, unbiased, /*shift_mean=*/true);
}

at::Tensor group_advantages_cpu(const at::Tensor& scores, int64_t group_size, std::string_view kind,
                                double eps, bool unbiased, std::string_view singletons,
                                const OptionalTensor& cu_groups,
                                const OptionalTensor& token_counts) {
  const math::GroupParams p = group_params(kind, eps, unbiased, singletons);
  const GroupInputs in = check_group_advantages(scores, group_size, cu_groups, token_counts);
  const int64_t* cu = in.cu_groups.defined() ? in.cu_groups.const_data_ptr<int64_t>() : nullptr;
  const at::Tensor out = at::empty_like(in.scores);
  AT_DISPATCH_FLOATING_TYPES(in.scores.scalar_type(), "group_advantages", [&] {
    const scalar_t* from = in.scores.const_data_ptr<scalar_t>();
    scalar_t* to = out.mutable_data_ptr<scalar_t>();
    const auto each_group = [&](auto* results) {
      at::parallel_for(0, in.groups, 512, [&](int64_t first, int64_t last) {
        for (int64_t g = first; g < last; ++g) {
          const int64_t begin = cu != nullptr ? cu[g] : g * group_size;
          const int64_t end = cu != nullptr ? cu[g + 1] : begin + group_size;
          math::group_advantages(from + begin, results + begin, end - begin, p);
        }
      });
    };
    if (!p.whitens_batch()) return each_group(to);
    std::vector<double> centred(static_cast<size_t>(in.scores.numel()));
    each_group(centred.data());
    const auto map = batch_whitening(centred, in, p.unbiased);
    for (size_t i = 0; i < centred.size(); ++i) to[i] = static_cast<scalar_t>(map(centred[i]));
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) {
  m.impl("moments", &moments_cpu);
  m.impl("whiten", &whiten_cpu);
  m.impl("group_advantages", &group_advantages_cpu);
}

}  // namespace hone::kernels
