// The CUDA halves of the advantage ops: checks, outputs, device guard, current stream, launcher.
// The dispatch_*.cpp files alone know both tensors and launchers; the losses are in
// dispatch_loss_cuda.

#include <ATen/Dispatch.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "kernels/advantage_rows.h"
#include "kernels/cuda/dispatch_tensors.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/zero_words.h"
#include "kernels/inputs.h"
#include "kernels/options.h"

namespace hone::kernels::cuda {
namespace {

using at::Tensor;

struct CudaAdvantages {
  static void run(const AdvantageInputs& in, const AdvantageSettings& settings,
                  const AdvantageOutputs& out) {
    const c10::cuda::CUDAGuard guard(in.logp_old.device());
    AT_DISPATCH_FLOATING_TYPES(in.logp_old.scalar_type(), "advantages", [&] {
      const Tensor workspace =
          workspace_on(in.logp_old, advantage_workspace_bytes<scalar_t>(in.tokens));
      const Tensor words = zero_words(in.logp_old, advantage_words(in.tokens));
      const AdvantageArgs<scalar_t> args{
          advantage_rows<scalar_t>(in, out),
          cast<scalar_t>(settings.params),
          settings.vtrace,
          out.stats.mutable_data_ptr<double>(),
          workspace.mutable_data_ptr(),
          reinterpret_cast<uint64_t*>(words.mutable_data_ptr<int64_t>())};
      C10_CUDA_CHECK(launch_advantages(args, c10::cuda::getCurrentCUDAStream()));
    });
  }
};

Tensor moments_cuda(const Tensor& x, const OptionalTensor& mask) {
  const MomentInputs in = check_moments(x, mask);
  const c10::cuda::CUDAGuard guard(in.x.device());
  const Tensor stats = doubles_on(in.x, 4);
  const Tensor workspace = workspace_on(in.x, sum_workspace_bytes());
  AT_DISPATCH_FLOATING_TYPES(in.x.scalar_type(), "moments", [&] {
    const MomentArgs<scalar_t> args{in.x.const_data_ptr<scalar_t>(), data_or_null<uint8_t>(in.mask),
                                    stats.mutable_data_ptr<double>(), in.x.numel(),
                                    workspace.mutable_data_ptr()};
    C10_CUDA_CHECK(launch_moments(args, c10::cuda::getCurrentCUDAStream()));
  });
  return stats;
}

Tensor whiten_cuda(const Tensor& x, const Tensor& stats, bool unbiased, bool shift_mean) {
  const WhitenInputs in = check_whiten(x, stats);
  const c10::cuda::CUDAGuard guard(in.x.device());
  const Tensor out = at::empty_like(in.x);
  AT_DISPATCH_FLOATING_TYPES(in.x.scalar_type(), "whiten", [&] {
    const WhitenArgs<scalar_t> args{in.x.const_data_ptr<scalar_t>(),
                                    in.stats.const_data_ptr<double>(),
                                    out.mutable_data_ptr<scalar_t>(),
                                    in.x.numel(),
                                    unbiased,
                                    shift_mean};
    C10_CUDA_CHECK(launch_whiten(args, c10::cuda::getCurrentCUDAStream()));
  });
  return out;
}

Tensor group_advantages_cuda(const Tensor& scores, int64_t group_size, std::string_view kind,
                             double eps, bool unbiased, std::string_view singletons,
                             const OptionalTensor& cu_groups, const OptionalTensor& token_counts) {
  const math::GroupParams params = group_params(kind, eps, unbiased, singletons);
  const GroupInputs in = check_group_advantages(scores, group_size, cu_groups, token_counts);
  const c10::cuda::CUDAGuard guard(in.scores.device());
  const Tensor out = at::empty_like(in.scores);
  const int64_t samples = in.scores.numel();
  const Tensor workspace = workspace_on(in.scores, group_workspace_bytes(params, samples));
  AT_DISPATCH_FLOATING_TYPES(in.scores.scalar_type(), "group_advantages", [&] {
    const GroupAdvantageArgs<scalar_t> args{in.scores.const_data_ptr<scalar_t>(),
                                            data_or_null<int64_t>(in.cu_groups),
                                            data_or_null<int64_t>(in.token_counts),
                                            out.mutable_data_ptr<scalar_t>(),
                                            samples,
                                            in.groups,
                                            in.group_size,
                                            params,
                                            workspace.mutable_data_ptr()};
    C10_CUDA_CHECK(launch_group_advantages(args, c10::cuda::getCurrentCUDAStream()));
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CUDA, m) {
  m.impl("advantages_into", &advantages_into_op<CudaAdvantages>);
  m.impl("moments", &moments_cuda);
  m.impl("whiten", &whiten_cuda);
  m.impl("group_advantages", &group_advantages_cuda);
}

}  // namespace hone::kernels::cuda
