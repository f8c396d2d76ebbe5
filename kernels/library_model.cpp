// Schemas of the model and optimizer ops, and their typed C++ faces. Ops whose name starts with an
// underscore carry gradients from forward to backward; they are no interface. The head is in
// library_head.cpp.

#include <torch/library.h>

#include "kernels/find_op.h"
#include "kernels/ops.h"

#define HONE_ATTENTION_TABLES "Tensor cos, Tensor sin, "
#define HONE_ATTENTION_SHAPE "int heads, int kv_heads, int head_dim, float scale, int window"
#define HONE_BLOCK_ARGS                                                                        \
  "Tensor x, Tensor[] weights, Tensor cu_seqlens, " HONE_ATTENTION_TABLES HONE_ATTENTION_SHAPE \
  ", float eps, bool bfloat16=False, Tensor? rows=None"

TORCH_LIBRARY_FRAGMENT(hone, m) {
  m.def(
      "adamw_step(Tensor(a!) param, Tensor grad, Tensor(b!) m, Tensor(c!) v, int[] offsets, "
      "float[] lr, float[] weight_decay, Tensor grad_scale, int step, float beta1=0.9, "
      "float beta2=0.999, float eps=1e-08, str eps_mode=\"torch\", *, Tensor(d!)? rounded=None) "
      "-> ()");
  m.def("grad_norm(Tensor grad) -> Tensor");
  m.def("scale(Tensor(a!) x, Tensor factor) -> ()");
  m.def("rms_norm(Tensor x, Tensor weight, float eps) -> Tensor");
  m.def("_rms_norm_backward(Tensor grad, Tensor x, Tensor weight, float eps) -> (Tensor, Tensor)");
  m.def("swiglu(Tensor x) -> Tensor");
  m.def("_swiglu_backward(Tensor grad, Tensor x) -> Tensor");
  m.def("attention(Tensor qkv, Tensor cu_seqlens, " HONE_ATTENTION_TABLES HONE_ATTENTION_SHAPE
        ") -> Tensor");
  m.def("_attention_forward(Tensor qkv, Tensor cu_seqlens, " HONE_ATTENTION_TABLES
            HONE_ATTENTION_SHAPE ") -> (Tensor, Tensor)");
  m.def("_attention_backward(Tensor grad, Tensor qkv, Tensor cu_seqlens, " HONE_ATTENTION_TABLES
        "Tensor out, Tensor lse, " HONE_ATTENTION_SHAPE ") -> Tensor");
  m.def("transformer_block(" HONE_BLOCK_ARGS ") -> Tensor");
  m.def("_transformer_block_forward(" HONE_BLOCK_ARGS ") -> Tensor[]");
  m.def("_transformer_block_backward(Tensor grad, Tensor[] saved, " HONE_BLOCK_ARGS
        ") -> Tensor[]");
  m.def(
      "decode_attention(Tensor qkv, Tensor(a!) k_cache, Tensor(b!) v_cache, Tensor block_table, "
      "Tensor positions, " HONE_ATTENTION_TABLES HONE_ATTENTION_SHAPE ") -> Tensor");
  m.def(
      "sample(Tensor logits, Tensor keys, int seed, float temperature=1.0, int top_k=0, "
      "float top_p=1.0, float min_p=0.0) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def("dropout(Tensor x, float p, int seed) -> Tensor");
}

// These have no gradient; without this a parameter arena that requires one would be refused.
TORCH_LIBRARY_IMPL(hone, Autograd, m) {
  for (const char* op : {"adamw_step", "grad_norm", "scale", "decode_attention", "sample"}) {
    m.impl(op, torch::CppFunction::makeFallthrough());
  }
}

namespace hone::kernels {
namespace {

using In = const Tensor&;

}  // namespace

void adamw_step(In param, In grad, In m, In v, at::IntArrayRef offsets, at::ArrayRef<double> lr,
                at::ArrayRef<double> weight_decay, In grad_scale, int64_t step,
                const AdamWOptions& options, const OptionalTensor& rounded) {
  static const auto op =
      find_op<void(In, In, In, In, at::IntArrayRef, at::ArrayRef<double>, at::ArrayRef<double>, In,
                   int64_t, double, double, double, c10::string_view, const OptionalTensor&)>(
          "hone::adamw_step");
  op.call(param, grad, m, v, offsets, lr, weight_decay, grad_scale, step, options.beta1,
          options.beta2, options.eps, options.eps_mode, rounded);
}

Tensor grad_norm(In grad) {
  static const auto op = find_op<Tensor(In)>("hone::grad_norm");
  return op.call(grad);
}

void scale(In x, In factor) {
  static const auto op = find_op<void(In, In)>("hone::scale");
  op.call(x, factor);
}

Tensor rms_norm(In x, In weight, double eps) {
  static const auto op = find_op<Tensor(In, In, double)>("hone::rms_norm");
  return op.call(x, weight, eps);
}

Tensor swiglu(In x) {
  static const auto op = find_op<Tensor(In)>("hone::swiglu");
  return op.call(x);
}

Tensor attention(In qkv, In cu_seqlens, In cos, In sin, const AttentionOptions& options) {
  static const auto op =
      find_op<Tensor(In, In, In, In, int64_t, int64_t, int64_t, double, int64_t)>(
          "hone::attention");
  return op.call(qkv, cu_seqlens, cos, sin, options.heads, options.kv_heads, options.head_dim,
                 options.scale, options.window);
}

Tensor transformer_block(In x, at::TensorList weights, In cu_seqlens, In cos, In sin,
                         const AttentionOptions& options, double eps, bool bfloat16,
                         const std::optional<Tensor>& rows) {
  static const auto op =
      find_op<Tensor(In, at::TensorList, In, In, In, int64_t, int64_t, int64_t, double, int64_t,
                     double, bool, const std::optional<Tensor>&)>("hone::transformer_block");
  return op.call(x, weights, cu_seqlens, cos, sin, options.heads, options.kv_heads,
                 options.head_dim, options.scale, options.window, eps, bfloat16, rows);
}

Tensor decode_attention(In qkv, In k_cache, In v_cache, In block_table, In positions, In cos,
                        In sin, const AttentionOptions& options) {
  static const auto op =
      find_op<Tensor(In, In, In, In, In, In, In, int64_t, int64_t, int64_t, double, int64_t)>(
          "hone::decode_attention");
  return op.call(qkv, k_cache, v_cache, block_table, positions, cos, sin, options.heads,
                 options.kv_heads, options.head_dim, options.scale, options.window);
}

Sampled sample(In logits, In keys, int64_t seed, const SampleOptions& options) {
  static const auto op = find_op<std::tuple<Tensor, Tensor, Tensor, Tensor>(
      In, In, int64_t, double, int64_t, double, double)>("hone::sample");
  auto [tokens, logprobs, raw_logprobs, entropy] =
      op.call(logits, keys, seed, options.temperature, options.top_k, options.top_p, options.min_p);
  return {tokens, logprobs, raw_logprobs, entropy};
}

Tensor dropout(In x, double p, int64_t seed) {
  if (p == 0.0) return x;  // the op's result is never its argument
  static const auto op = find_op<Tensor(In, double, int64_t)>("hone::dropout");
  return op.call(x, p, seed);
}

}  // namespace hone::kernels
