#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <type_traits>

#include "kernels/cpu/fixed_order_sum.h"
#include "kernels/cpu/loss_rows.h"
#include "kernels/inputs.h"
#include "kernels/math/whitening.h"
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

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) {
  m.impl("moments", &moments_cpu);
  m.impl("whiten", &whiten_cpu);
}

}  // namespace hone::kernels
