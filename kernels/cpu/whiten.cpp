#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "kernels/cpu/fixed_order_sum.h"
#include "kernels/inputs.h"
#include "kernels/math/whitening.h"
#include "kernels/options.h"

namespace hone::kernels {
namespace {

at::Tensor moments_cpu(const at::Tensor& x, const OptionalTensor& mask) {
  const MomentInputs in = check_moments(x, mask);
  const uint8_t* kept = in.mask.defined() ? in.mask.const_data_ptr<uint8_t>() : nullptr;
  const math::MomentSums total = AT_DISPATCH_FLOATING_TYPES(in.x.scalar_type(), "moments", [&] {
    const scalar_t* data = in.x.const_data_ptr<scalar_t>();
    return sum_in_blocks<math::MomentSums>(in.x.numel(),
                                           [&](math::MomentSums& m, int64_t begin, int64_t end) {
                                             for (int64_t i = begin; i < end; ++i) {
                                               if (kept != nullptr && kept[i] == 0) continue;
                                               m.add(data[i]);
                                             }
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
  const at::Tensor out = at::empty_like(in.x);
  AT_DISPATCH_FLOATING_TYPES(in.x.scalar_type(), "whiten", [&] {
    const scalar_t* from = in.x.const_data_ptr<scalar_t>();
    scalar_t* to = out.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, in.x.numel(), 32768, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) to[i] = map(from[i]);
    });
  });
  return out;
}

at::Tensor group_advantages_cpu(const at::Tensor& scores, int64_t group_size, std::string_view kind,
                                double eps) {
  const math::GroupBaseline baseline = parse_group_baseline("group_advantages", kind);
  const at::Tensor in = check_group_advantages(scores, group_size, eps);
  const at::Tensor out = at::empty_like(in);
  AT_DISPATCH_FLOATING_TYPES(in.scalar_type(), "group_advantages", [&] {
    const scalar_t* from = in.const_data_ptr<scalar_t>();
    scalar_t* to = out.mutable_data_ptr<scalar_t>();
    for (int64_t i = 0; i < in.numel(); i += group_size) {
      math::group_advantages(from + i, to + i, group_size, baseline, eps);
    }
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
