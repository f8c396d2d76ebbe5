// The CUDA halves of the transformer pieces: checks, outputs, device guard, current stream,
// launcher. What the attention kernels do not take (float32, float64, other heads) runs in plain
// ATen operations (kernels/composite).

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include "kernels/bfloat16.h"
#include "kernels/composite/transformer.h"
#include "kernels/cuda/attention_launchers.h"
#include "kernels/cuda/dispatch_tensors.h"
#include "kernels/cuda/transformer_launchers.h"
#include "kernels/model_inputs.h"

namespace hone::kernels::cuda {
namespace {

using at::Tensor;

/// The type that a launcher calls an element of a tensor.
template <typename T>
struct ElementOf {
  using type = T;
};
template <>
struct ElementOf<c10::BFloat16> {
  using type = math::Bfloat16;
};

template <typename T>
const T* input(const Tensor& x) {
  return static_cast<const T*>(x.const_data_ptr());
}
template <typename T>
T* output(const Tensor& x) {
  return static_cast<T*>(x.mutable_data_ptr());
}

/// Contiguous, and starting at a multiple of the 16 bytes that a vector load takes; a copy if not.
Tensor aligned(const Tensor& x) {
  const Tensor held = x.contiguous();
  const bool there = reinterpret_cast<uintptr_t>(held.const_data_ptr()) % 16 == 0;
  return there ? held : held.clone();
}

/// body(T()) with the element type of x, its device current.
template <typename Body>
void with_elements(const Tensor& x, const Body& body) {
  const c10::cuda::CUDAGuard guard(x.device());
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x.scalar_type(), "transformer",
                                 [&] { body(typename ElementOf<scalar_t>::type()); });
}

Tensor rms_norm_cuda(const Tensor& x, const Tensor& weight, double eps) {
  check_rms_norm(x, weight, eps);
  const Tensor in = x.contiguous(), w = weight.contiguous(), out = at::empty_like(in);
  with_elements(in, [&](auto element) {
    using T = decltype(element);
    C10_CUDA_CHECK(
        launch_rms_norm<T>({input<T>(in), input<T>(w), output<T>(out), in.size(0), in.size(1), eps},
                           c10::cuda::getCurrentCUDAStream()));
  });
  return out;
}

std::tuple<Tensor, Tensor> rms_norm_backward_cuda(const Tensor& grad, const Tensor& x,
                                                  const Tensor& weight, double eps) {
  const Tensor in = x.contiguous(), w = weight.contiguous(), g = grad.contiguous();
  const Tensor d_x = at::empty_like(in), d_weight = at::empty_like(w);
  bool fits = false;
  with_elements(in, [&](auto element) {
    using T = decltype(element);
    fits = in.size(1) <= rms_norm_max_width<T>();
    if (!fits) return;
    const Tensor workspace = workspace_on(in, rms_norm_workspace_bytes<T>(in.size(0), in.size(1)));
    C10_CUDA_CHECK(launch_rms_norm_backward<T>(
        {input<T>(g), input<T>(in), input<T>(w), output<T>(d_x), output<T>(d_weight),
         workspace.mutable_data_ptr(), in.size(0), in.size(1), eps},
        c10::cuda::getCurrentCUDAStream()));
  });
  if (fits) return {d_x, d_weight};
  const auto [wide_x, wide_weight] =
      composite::rms_norm_backward(computed(grad), computed(x), computed(weight), eps);
  return {rounded(wide_x, x), rounded(wide_weight, weight)};
}

Tensor swiglu_cuda(const Tensor& x) {
  check_swiglu(x);
  const Tensor in = x.contiguous();
  const int64_t width = in.size(1) / 2;
  const Tensor out = at::empty({in.size(0), width}, in.options());
  with_elements(in, [&](auto element) {
    using T = decltype(element);
    C10_CUDA_CHECK(launch_swiglu<T>({input<T>(in), output<T>(out), in.size(0), width},
                                    c10::cuda::getCurrentCUDAStream()));
  });
  return out;
}

Tensor swiglu_backward_cuda(const Tensor& grad, const Tensor& x) {
  const Tensor in = x.contiguous(), g = grad.contiguous(), d_x = at::empty_like(in);
  with_elements(in, [&](auto element) {
    using T = decltype(element);
    C10_CUDA_CHECK(launch_swiglu_backward<T>(
        {input<T>(g), input<T>(in), output<T>(d_x), in.size(0), in.size(1) / 2},
        c10::cuda::getCurrentCUDAStream()));
  });
  return d_x;
}

std::tuple<Tensor, Tensor> attention_forward_cuda(const Tensor& qkv, const Tensor& cu_seqlens,
                                                  const Tensor& cos, const Tensor& sin,
                                                  int64_t heads, int64_t kv_heads, int64_t head_dim,
                                                  double scale, int64_t window) {
  const AttentionShape shape =
      check_attention(qkv, cu_seqlens, cos, sin, heads, kv_heads, head_dim, scale, window);
  if (qkv.scalar_type() == at::kBFloat16) {
    const c10::cuda::CUDAGuard guard(qkv.device());
    const Tensor in = aligned(qkv), cu = cu_seqlens.contiguous();
    const Tensor c = aligned(computed(cos)), s = aligned(computed(sin));
    const Tensor out = at::empty({in.size(0), heads * head_dim}, in.options());
    const Tensor lse = at::empty({heads, in.size(0)}, c.options());
    AttentionArgs args{input<math::Bfloat16>(in),
                       cu.const_data_ptr<int64_t>(),
                       c.const_data_ptr<float>(),
                       s.const_data_ptr<float>(),
                       output<math::Bfloat16>(out),
                       output<float>(lse),
                       nullptr,
                       in.size(0),
                       cu.size(0) - 1,
                       {heads, kv_heads, head_dim, window, shape.scale}};
    if (attention_takes(args)) {
      const Tensor workspace = workspace_on(in, attention_workspace_bytes(args));
      args.workspace = workspace.mutable_data_ptr();
      C10_CUDA_CHECK(launch_attention(args, c10::cuda::getCurrentCUDAStream()));
      return {out, lse};
    }
  }
  const auto [out, lse] =
      composite::attention_forward(shape, computed(qkv), cu_seqlens, computed(cos), computed(sin));
  return {rounded(out, qkv), lse};
}

Tensor attention_cuda(const Tensor& qkv, const Tensor& cu_seqlens, const Tensor& cos,
                      const Tensor& sin, int64_t heads, int64_t kv_heads, int64_t head_dim,
                      double scale, int64_t window) {
  return std::get<0>(
      attention_forward_cuda(qkv, cu_seqlens, cos, sin, heads, kv_heads, head_dim, scale, window));
}

Tensor attention_backward_cuda(const Tensor& grad, const Tensor& qkv, const Tensor& cu_seqlens,
                               const Tensor& cos, const Tensor& sin, const Tensor& out,
                               const Tensor& lse, int64_t heads, int64_t kv_heads, int64_t head_dim,
                               double scale, int64_t window) {
  const AttentionShape shape =
      check_attention(qkv, cu_seqlens, cos, sin, heads, kv_heads, head_dim, scale, window);
  if (qkv.scalar_type() == at::kBFloat16) {
    const c10::cuda::CUDAGuard guard(qkv.device());
    const Tensor in = aligned(qkv), cu = cu_seqlens.contiguous(), o = aligned(out);
    const Tensor c = aligned(computed(cos)), s = aligned(computed(sin)), g = aligned(grad);
    const Tensor sums = lse.contiguous(), d_qkv = at::empty_like(in);
    AttentionBackwardArgs args{{input<math::Bfloat16>(in),
                                cu.const_data_ptr<int64_t>(),
                                c.const_data_ptr<float>(),
                                s.const_data_ptr<float>(),
                                const_cast<math::Bfloat16*>(input<math::Bfloat16>(o)),
                                const_cast<float*>(sums.const_data_ptr<float>()),
                                nullptr,
                                in.size(0),
                                cu.size(0) - 1,
                                {heads, kv_heads, head_dim, window, shape.scale}},
                               input<math::Bfloat16>(g),
                               output<math::Bfloat16>(d_qkv)};
    if (attention_backward_takes(args)) {
      const Tensor workspace = workspace_on(in, attention_backward_workspace_bytes(args));
      args.forward.workspace = workspace.mutable_data_ptr();
      C10_CUDA_CHECK(launch_attention_backward(args, c10::cuda::getCurrentCUDAStream()));
      return d_qkv;
    }
  }
  return rounded(composite::attention_backward(shape, computed(grad), computed(qkv), cu_seqlens,
                                               computed(cos), computed(sin), computed(out), lse),
                 qkv);
}

Tensor decode_attention_cuda(const Tensor& qkv, const Tensor& k_cache, const Tensor& v_cache,
                             const Tensor& block_table, const Tensor& positions, const Tensor& cos,
                             const Tensor& sin, int64_t heads, int64_t kv_heads, int64_t head_dim,
                             double scale, int64_t window) {
  const AttentionShape shape =
      check_decode_attention(qkv, k_cache, v_cache, block_table, positions, cos, sin, heads,
                             kv_heads, head_dim, scale, window);
  const c10::cuda::CUDAGuard guard(qkv.device());
  const Tensor in = aligned(qkv), table = block_table.contiguous();
  const Tensor at_position = positions.contiguous(), c = computed(cos), s = computed(sin);
  const Tensor out = at::empty({in.size(0), heads * head_dim}, in.options());
  bool done = false;
  with_elements(in, [&](auto element) {
    using T = decltype(element);
    using C = math::Compute<T>;
    DecodeArgs<T> args{input<T>(in),
                       output<T>(k_cache),
                       output<T>(v_cache),
                       table.const_data_ptr<int32_t>(),
                       at_position.const_data_ptr<int64_t>(),
                       c.const_data_ptr<C>(),
                       s.const_data_ptr<C>(),
                       output<T>(out),
                       nullptr,
                       in.size(0),
                       table.size(1),
                       k_cache.size(1),
                       {heads, kv_heads, head_dim, window, shape.scale}};
    done = decode_takes(args);
    if (!done) return;
    const Tensor workspace = workspace_on(in, decode_workspace_bytes(args));
    args.workspace = workspace.mutable_data_ptr();
    C10_CUDA_CHECK(launch_decode_attention(args, c10::cuda::getCurrentCUDAStream()));
  });
  if (done) return out;
  if (qkv.scalar_type() == compute_type(qkv.scalar_type())) {
    return composite::decode_attention(shape, qkv, k_cache, v_cache, block_table, positions, c, s);
  }
  // bfloat16 caches are written back after a step on widened copies.
  const Tensor k = computed(k_cache), v = computed(v_cache);
  const Tensor wide =
      composite::decode_attention(shape, computed(qkv), k, v, block_table, positions, c, s);
  k_cache.copy_(k);
  v_cache.copy_(v);
  return rounded(wide, qkv);
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CUDA, m) {
  m.impl("rms_norm", &rms_norm_cuda);
  m.impl("_rms_norm_backward", &rms_norm_backward_cuda);
  m.impl("swiglu", &swiglu_cuda);
  m.impl("_swiglu_backward", &swiglu_backward_cuda);
  m.impl("attention", &attention_cuda);
  m.impl("_attention_forward", &attention_forward_cuda);
  m.impl("_attention_backward", &attention_backward_cuda);
  m.impl("decode_attention", &decode_attention_cuda);
}

}  // namespace hone::kernels::cuda
