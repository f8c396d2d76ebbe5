#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <type_traits>
#include <vector>

#include "kernels/cpu/fixed_order_sum.h"
#include "kernels/cpu/group_rows.h"
#include "kernels/inputs.h"
#include "kernels/math/group.h"
#include "kernels/math/whitening.h"
#include "kernels/options.h"

namespace hone::kernels {
namespace {

/// out = the values whitened over the batch, each counted as often as `times` says (null: once).
template <typename From, typename T>
void whiten_batch(const From* values, const int64_t* times, int64_t size, bool unbiased, T* out) {
  const auto total =
      sum_in_blocks<math::MomentSums>(size, [&](math::MomentSums& m, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          m.add(values[i], times != nullptr ? static_cast<double>(times[i]) : 1.0);
        }
      });
  const double stats[] = {total.sum, total.squares, total.count};
  const auto map = math::whitening(stats, unbiased, /*shift_mean=*/true);
  for (int64_t i = 0; i < size; ++i) out[i] = static_cast<T>(map(static_cast<double>(values[i])));
}

/// The groups [first, last) before a whitening; equally large where `cu` is null.
template <typename T, typename Out>
void some_groups(const T* scores, Out* out, int64_t group_size, const int64_t* cu,
                 const math::GroupParams& p, int64_t first, int64_t last) {
  if constexpr (std::is_same_v<Out, float>) {
    if (vectorised(p)) return group_advantage_rows({scores, out, group_size, cu}, p, first, last);
  }
  for (int64_t g = first; g < last; ++g) {
    const int64_t begin = cu != nullptr ? cu[g] : g * group_size;
    const int64_t end = cu != nullptr ? cu[g + 1] : begin + group_size;
    math::group_advantages(scores + begin, out + begin, end - begin, p);
  }
}

at::Tensor group_advantages_cpu(const at::Tensor& scores, int64_t group_size, std::string_view kind,
                                double eps, bool unbiased, std::string_view singletons,
                                const OptionalTensor& cu_groups,
                                const OptionalTensor& token_counts) {
  const math::GroupParams p = group_params(kind, eps, unbiased, singletons);
  const GroupInputs in = check_group_advantages(scores, group_size, cu_groups, token_counts);
  const int64_t* cu = in.cu_groups.defined() ? in.cu_groups.const_data_ptr<int64_t>() : nullptr;
  const int64_t* times =
      in.token_counts.defined() ? in.token_counts.const_data_ptr<int64_t>() : nullptr;
  const int64_t size = in.scores.numel();
  // A thread gets at least 16k scores, on average.
  const int64_t grain = std::max<int64_t>(1, in.groups * 16384 / std::max<int64_t>(1, size));
  const at::Tensor out = at::empty_like(in.scores);
  AT_DISPATCH_FLOATING_TYPES(in.scores.scalar_type(), "group_advantages", [&] {
    const scalar_t* from = in.scores.const_data_ptr<scalar_t>();
    scalar_t* to = out.mutable_data_ptr<scalar_t>();
    if (p.kind == math::GroupKind::kReinforcePp) {
      return whiten_batch(from, times, size, p.unbiased, to);
    }
    const auto each_group = [&](auto* results) {
      at::parallel_for(0, in.groups, grain, [&](int64_t first, int64_t last) {
        some_groups(from, results, cu != nullptr ? 0 : group_size, cu, p, first, last);
      });
    };
    if (!p.whitens_batch()) return each_group(to);
    std::vector<double> centred(static_cast<size_t>(size));
    each_group(centred.data());
    whiten_batch(centred.data(), times, size, p.unbiased, to);
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) { m.impl("group_advantages", &group_advantages_cpu); }

}  // namespace hone::kernels
