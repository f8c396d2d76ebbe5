// The CUDA halves of the optimizer ops, dropout and sampling.

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <cstring>
#include <limits>
#include <vector>

#include "kernels/adamw_arguments.h"
#include "kernels/bfloat16.h"
#include "kernels/checks.h"
#include "kernels/cuda/model_launchers.h"
#include "kernels/math/philox.h"
#include "kernels/model_inputs.h"

namespace hone::kernels::cuda {
namespace {

using at::Tensor;

/// Host bytes as a tensor on the device of `like`, copied on the current stream.
template <typename T>
Tensor to_device(const std::vector<T>& values, const Tensor& like) {
  const int64_t bytes = static_cast<int64_t>(values.size() * sizeof(T));
  Tensor host = at::empty({bytes}, at::TensorOptions().dtype(at::kByte));
  std::memcpy(host.mutable_data_ptr(), values.data(), bytes);
  return host.to(like.device());
}

/// `body(x)` with x a pointer to the elements as the kernels see them.
template <typename Body>
void on_elements(const Tensor& x, const Body& body) {
  if (x.scalar_type() == at::kDouble) return body(x.mutable_data_ptr<double>());
  if (x.scalar_type() == at::kFloat) return body(x.mutable_data_ptr<float>());
  body(static_cast<math::Bfloat16*>(x.mutable_data_ptr()));
}

void adamw_step_cuda(const Tensor& param, const Tensor& grad, const Tensor& m, const Tensor& v,
                     at::IntArrayRef offsets, at::ArrayRef<double> lr,
                     at::ArrayRef<double> weight_decay, const Tensor& grad_scale, int64_t step,
                     double beta1, double beta2, double eps, c10::string_view eps_mode,
                     const std::optional<Tensor>& rounded) {
  const auto slices = adamw_slices(param, grad, m, v, offsets, lr, weight_decay, grad_scale, step,
                                   beta1, beta2, eps, {eps_mode.data(), eps_mode.size()}, rounded);
  if (slices.empty()) return;
  const c10::cuda::CUDAGuard guard(param.device());
  const Tensor scale = grad_scale.to(param.device(), at::kDouble);
  const Tensor bounds = to_device(offsets.vec(), param);
  auto* low = rounded ? static_cast<math::Bfloat16*>(rounded->mutable_data_ptr()) : nullptr;
  const auto launch = [&](auto* p, const auto* g) {
    using T = std::remove_pointer_t<decltype(p)>;
    using G = std::remove_cv_t<std::remove_pointer_t<decltype(g)>>;
    std::vector<math::AdamWCoefficients<T>> held;
    for (const AdamWSlice& slice : slices) held.push_back(cast<T>(slice.coefficients));
    const Tensor coefficients = to_device(held, param);
    const AdamWArgs<T, G> args{
        {p, g, m.mutable_data_ptr<T>(), v.mutable_data_ptr<T>(), low, param.numel()},
        static_cast<const int64_t*>(bounds.const_data_ptr()),
        static_cast<const math::AdamWCoefficients<T>*>(coefficients.const_data_ptr()),
        static_cast<int64_t>(slices.size()),
        offsets.front(),
        offsets.back(),
        scale.const_data_ptr<double>()};
    C10_CUDA_CHECK(launch_adamw(args, c10::cuda::getCurrentCUDAStream()));
  };
  if (param.scalar_type() == at::kDouble) {
    launch(param.mutable_data_ptr<double>(), grad.const_data_ptr<double>());
  } else if (grad.scalar_type() == at::kFloat) {
    launch(param.mutable_data_ptr<float>(), grad.const_data_ptr<float>());
  } else {
    launch(param.mutable_data_ptr<float>(),
           static_cast<const math::Bfloat16*>(grad.const_data_ptr()));
  }
}

Tensor grad_norm_cuda(const Tensor& grad) {
  check::model_floating("grad_norm", "grad", grad);
  const Tensor in = grad.contiguous();
  const c10::cuda::CUDAGuard guard(in.device());
  const Tensor norm = at::empty({}, in.options().dtype(at::kDouble));
  const Tensor workspace =
      at::empty({static_cast<int64_t>(grad_norm_workspace_bytes())}, in.options().dtype(at::kByte));
  on_elements(in, [&](auto* x) {
    C10_CUDA_CHECK(launch_grad_norm(const_cast<const std::remove_pointer_t<decltype(x)>*>(x),
                                    in.numel(), norm.mutable_data_ptr<double>(),
                                    workspace.mutable_data_ptr(),
                                    c10::cuda::getCurrentCUDAStream()));
  });
  return norm;
}

void scale_cuda(const Tensor& x, const Tensor& factor) {
  check_scale(x, factor);
  const c10::cuda::CUDAGuard guard(x.device());
  on_elements(x, [&](auto* elements) {
    C10_CUDA_CHECK(launch_scale(elements, x.numel(), factor.const_data_ptr<double>(),
                                c10::cuda::getCurrentCUDAStream()));
  });
}

Tensor dropout_cuda(const Tensor& x, double p, int64_t seed) {
  check_dropout(x, p);
  const Tensor in = computed(x);
  const c10::cuda::CUDAGuard guard(in.device());
  const Tensor out = at::empty(in.sizes(), in.options());
  AT_DISPATCH_FLOATING_TYPES(in.scalar_type(), "dropout", [&] {
    const DropoutArgs<scalar_t> args{
        in.const_data_ptr<scalar_t>(), out.mutable_data_ptr<scalar_t>(),      in.numel(), seed,
        math::dropout_threshold(p),    static_cast<scalar_t>(1.0 / (1.0 - p))};
    C10_CUDA_CHECK(launch_dropout(args, c10::cuda::getCurrentCUDAStream()));
  });
  return rounded(out, x);
}

using SampleResults = std::tuple<Tensor, Tensor, Tensor, Tensor>;

SampleResults sample_cuda(const Tensor& logits, const Tensor& keys, int64_t seed,
                          double temperature, int64_t top_k, double top_p, double min_p) {
  check_sample(logits, keys, temperature, top_k, top_p, min_p);
  const c10::cuda::CUDAGuard guard(logits.device());
  const Tensor in = logits.contiguous(), key = keys.contiguous();
  const auto values = in.options().dtype(compute_type(in.scalar_type()));
  const int64_t rows = in.size(0);
  const SampleResults out{at::empty({rows}, key.options()), at::empty({rows}, values),
                          at::empty({rows}, values), at::empty({rows}, values)};
  const bool filters = temperature != 0 && (top_k > 0 || top_p < 1.0 || min_p > 0.0);
  on_elements(in, [&](auto* x) {
    using T = std::remove_pointer_t<decltype(x)>;
    using C = math::Compute<T>;
    const auto& [tokens, logprobs, raw_logprobs, entropy] = out;
    const SampleArgs<T> args{x,
                             key.const_data_ptr<int64_t>(),
                             rows,
                             in.size(1),
                             seed,
                             temperature,
                             tokens.mutable_data_ptr<int64_t>(),
                             logprobs.template mutable_data_ptr<C>(),
                             raw_logprobs.template mutable_data_ptr<C>(),
                             entropy.template mutable_data_ptr<C>()};
    const auto stream = c10::cuda::getCurrentCUDAStream();
    C10_CUDA_CHECK(filters ? launch_sample_filtered<T>({args, top_k, top_p, min_p}, stream)
                           : launch_sample(args, stream));
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CUDA, m) {
  m.impl("adamw_step", &adamw_step_cuda);
  m.impl("grad_norm", &grad_norm_cuda);
  m.impl("scale", &scale_cuda);
  m.impl("dropout", &dropout_cuda);
  m.impl("sample", &sample_cuda);
}

}  // namespace hone::kernels::cuda
