#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "kernels/bfloat16.h"
#include "kernels/cpu/attention_item.h"
#include "kernels/cpu/parallel_items.h"
#include "kernels/model_inputs.h"
#include "kernels/threads.h"

namespace hone::kernels {
namespace {

using at::Tensor;

struct Inputs {
  AttentionShape shape;
  Tensor qkv, cu, cos, sin;

  Inputs(const Tensor& qkv_in, const Tensor& cu_seqlens, const Tensor& cos_in, const Tensor& sin_in,
         int64_t heads, int64_t kv_heads, int64_t head_dim, double scale, int64_t window)
      : shape(check_attention(qkv_in, cu_seqlens, cos_in, sin_in, heads, kv_heads, head_dim, scale,
                              window)),
        qkv(computed(qkv_in)),
        cu(cu_seqlens.contiguous()),
        cos(computed(cos_in)),
        sin(computed(sin_in)) {}

  int64_t sequences() const { return cu.size(0) - 1; }
  int64_t items() const { return sequences() * shape.kv_heads; }

  template <typename T>
  AttentionTask<T> task(const Tensor& out, const Tensor& lse) const {
    return {shape,
            cu.const_data_ptr<int64_t>(),
            qkv.const_data_ptr<T>(),
            cos.const_data_ptr<T>(),
            sin.const_data_ptr<T>(),
            out.data_ptr<T>(),
            lse.data_ptr<T>(),
            nullptr,
            nullptr,
            qkv.size(0)};
  }
};

std::tuple<Tensor, Tensor> attention_forward_cpu(const Tensor& qkv, const Tensor& cu_seqlens,
                                                 const Tensor& cos, const Tensor& sin,
                                                 int64_t heads, int64_t kv_heads, int64_t head_dim,
                                                 double scale, int64_t window) {
  const Inputs in(qkv, cu_seqlens, cos, sin, heads, kv_heads, head_dim, scale, window);
  const int64_t tokens = qkv.size(0);
  Tensor out = at::empty({tokens, heads * head_dim}, in.qkv.options());
  Tensor lse = at::empty({heads, tokens}, in.qkv.options());
  AT_DISPATCH_FLOATING_TYPES(in.qkv.scalar_type(), "attention", [&] {
    const auto task = in.task<scalar_t>(out, lse);
    parallel_items(in.items(), [&] {
      return [&, scratch = AttentionScratch<scalar_t>()](int64_t item) mutable {
        const FlushedDenormals flushed;
        attention_forward_item(task, item / kv_heads, item % kv_heads, scratch);
      };
    });
  });
  return {rounded(out, qkv), lse};
}

Tensor attention_cpu(const Tensor& qkv, const Tensor& cu_seqlens, const Tensor& cos,
                     const Tensor& sin, int64_t heads, int64_t kv_heads, int64_t head_dim,
                     double scale, int64_t window) {
  return std::get<0>(
      attention_forward_cpu(qkv, cu_seqlens, cos, sin, heads, kv_heads, head_dim, scale, window));
}

Tensor attention_backward_cpu(const Tensor& grad, const Tensor& qkv, const Tensor& cu_seqlens,
                              const Tensor& cos, const Tensor& sin, const Tensor& out,
                              const Tensor& lse, int64_t heads, int64_t kv_heads, int64_t head_dim,
                              double scale, int64_t window) {
  const Inputs in(qkv, cu_seqlens, cos, sin, heads, kv_heads, head_dim, scale, window);
  const Tensor g = computed(grad), held_out = computed(out);
  Tensor d_qkv = at::empty(qkv.sizes(), in.qkv.options());
  AT_DISPATCH_FLOATING_TYPES(in.qkv.scalar_type(), "attention", [&] {
    auto task = in.task<scalar_t>(held_out, lse);
    task.grad = g.const_data_ptr<scalar_t>();
    task.d_qkv = d_qkv.data_ptr<scalar_t>();
    parallel_items(in.items(), [&] {
      return [&, scratch = AttentionScratch<scalar_t>()](int64_t item) mutable {
        const FlushedDenormals flushed;
        attention_backward_item(task, item / kv_heads, item % kv_heads, scratch);
      };
    });
  });
  return rounded(d_qkv, qkv);
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) {
  m.impl("attention", &attention_cpu);
  m.impl("_attention_forward", &attention_forward_cpu);
  m.impl("_attention_backward", &attention_backward_cpu);
}

}  // namespace hone::kernels
