// Shapes and dtypes of what the transformer pieces return, for fake tensors (torch.compile,
// torch.export). Sizes may be symbols, so nothing here reads a number but those of weights; the
// checks are the kernels'.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <vector>

#include "kernels/bfloat16.h"
#include "kernels/cpu/amx_transformer_block.h"

namespace hone::kernels {
namespace {

using at::Tensor;

/// The arguments of a call in the order of its schema.
class Arguments {
 public:
  explicit Arguments(c10::ArrayRef<c10::IValue> values) : values_(values) {}

  const Tensor& tensor(size_t i) const { return values_[i].toTensor(); }
  std::vector<Tensor> tensors(size_t i) const { return values_[i].toTensorVector(); }
  int64_t number(size_t i) const { return values_[i].toInt(); }
  bool flag(size_t i) const { return values_[i].toBool(); }
  bool has(size_t i) const { return values_[i].isTensor() && values_[i].toTensor().defined(); }

 private:
  c10::ArrayRef<c10::IValue> values_;
};

/// Kernels return contiguous results whatever the layout of their inputs.
Tensor like(const Tensor& x) { return at::empty_symint(x.sym_sizes(), x.options()); }
Tensor sized(c10::SymIntArrayRef sizes, at::TensorOptions options) {
  return at::empty_symint(sizes, options);
}
at::TensorOptions computed_options(const Tensor& x) {
  return x.options().dtype(compute_type(x.scalar_type()));
}

using Results = std::vector<Tensor>;

/// One result like argument I.
template <size_t I>
Results like_argument(const Arguments& a) {
  return {like(a.tensor(I))};
}
Results rms_norm_backward(const Arguments& a) { return {like(a.tensor(1)), like(a.tensor(2))}; }

Results swiglu(const Arguments& a) {
  const Tensor& x = a.tensor(0);
  return {sized({x.sym_size(0), x.sym_size(1) / 2}, x.options())};
}

/// [N, heads * head_dim] in the type of qkv; `heads` is the index of that argument.
Tensor attended(const Arguments& a, size_t heads) {
  const Tensor& qkv = a.tensor(0);
  return sized({qkv.sym_size(0), a.number(heads) * a.number(heads + 2)}, qkv.options());
}
Results attention(const Arguments& a) { return {attended(a, 4)}; }
Results decode_attention(const Arguments& a) { return {attended(a, 7)}; }
Results attention_forward(const Arguments& a) {
  const Tensor& qkv = a.tensor(0);
  return {attended(a, 4), sized({a.number(4), qkv.sym_size(0)}, computed_options(qkv))};
}

/// As cpu/transformer_block.cpp leaves them: out, then what backward reads.
Results block_forward(const Arguments& a) {
  const Tensor x = a.tensor(0);
  const auto weights = a.tensors(1);
  const c10::SymInt rows = x.sym_size(0), mlp = weights[4].sym_size(0);
  const c10::SymInt out = a.has(12) ? a.tensor(12).sym_size(0) : rows, width = x.sym_size(1);
  const auto operand = x.options().dtype(a.flag(11) ? at::kBFloat16 : x.scalar_type());
  const auto number = [](const c10::SymInt& size) { return size.guard_int(__FILE__, __LINE__); };
  const bool amx = a.flag(11) && amx_suits({number(x.sym_size(1)), number(weights[5].sym_size(1)),
                                            a.number(5), a.number(6), a.number(7)});
  Results all{sized({out, width}, x.options()),
              sized({rows, weights[1].sym_size(0)}, amx ? operand : x.options()),
              sized({rows, weights[2].sym_size(1)}, operand),
              sized({a.number(5), rows}, x.options()), sized({out, width}, x.options())};
  if (!a.flag(11)) all.push_back(sized({out, mlp}, x.options()));
  return all;
}
Results block_backward(const Arguments& a) {
  Results out{like(a.tensor(2))};
  for (const Tensor& weight : a.tensors(3)) out.push_back(like(weight));
  return out;
}

using Shapes = Results (*)(const Arguments&);

/// Reads the arguments by place, so that an op may gain arguments at the end of its schema.
template <Shapes kShapes>
void run(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const Results results = kShapes(Arguments(torch::jit::last(*stack, schema.arguments().size())));
  torch::jit::drop(*stack, schema.arguments().size());
  if (schema.returns().size() == 1 &&
      schema.returns()[0].type()->kind() == c10::TypeKind::ListType) {
    torch::jit::push(*stack, results);
    return;
  }
  for (const Tensor& result : results) torch::jit::push(*stack, result);
}

template <Shapes kShapes>
torch::CppFunction fake() {
  return torch::CppFunction::makeFromBoxedFunction<&run<kShapes>>();
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, Meta, m) {
  m.impl("rms_norm", fake<like_argument<0>>());
  m.impl("_rms_norm_backward", fake<rms_norm_backward>());
  m.impl("swiglu", fake<swiglu>());
  m.impl("_swiglu_backward", fake<like_argument<1>>());
  m.impl("attention", fake<attention>());
  m.impl("_attention_forward", fake<attention_forward>());
  m.impl("_attention_backward", fake<like_argument<1>>());
  m.impl("decode_attention", fake<decode_attention>());
  m.impl("transformer_block", fake<like_argument<0>>());
  m.impl("_transformer_block_forward", fake<block_forward>());
  m.impl("_transformer_block_backward", fake<block_backward>());
}

}  // namespace hone::kernels
