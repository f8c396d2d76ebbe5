#include "kernels/cpu/amx_transformer_block.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/amx_block.h"

namespace hone::kernels {
namespace {

using at::Tensor;
using In = const Tensor&;

constexpr int64_t kFewestRows = 64;  // packing the weights costs about as much as 20 rows
constexpr int64_t kTaskRows = 64;    // a multiple of the 32 that pass through a block together

BlockShape shape_of(const BlockArguments& in) {
  return {in.x.size(1), in.qkv().size(0), in.attention_output().size(1), in.down().size(1)};
}

const uint16_t* bits(In x) {
  return reinterpret_cast<const uint16_t*>(x.const_data_ptr<c10::BFloat16>());
}

/// The weights and what they were made of.
struct Packed {
  Tensor attention_norm, mlp_norm, bias, qkv, output, gate_up, down;
  BlockWeights weights;

  explicit Packed(const BlockArguments& in)
      : attention_norm(in.attention_norm().contiguous()),
        mlp_norm(in.mlp_norm().contiguous()),
        qkv(in.qkv().to(at::kBFloat16).contiguous()),
        output(in.attention_output().to(at::kBFloat16).contiguous()),
        gate_up(in.gate_up().to(at::kBFloat16).contiguous()),
        down(in.down().to(at::kBFloat16).contiguous()) {
    if (in.has_bias()) bias = in.qkv_bias().contiguous();
    weights.shape = shape_of(in);
    weights.attention_norm = attention_norm.const_data_ptr<float>();
    weights.mlp_norm = mlp_norm.const_data_ptr<float>();
    weights.qkv_bias = in.has_bias() ? bias.const_data_ptr<float>() : nullptr;
    weights.eps = static_cast<float>(in.eps);
  }
};

/// visit(share, first row, rows): one share of neighbouring rows for each thread.
template <typename Visit>
void in_shares(int64_t rows, const Visit& visit) {
  const int64_t threads = at::get_num_threads(), tasks = (rows + kTaskRows - 1) / kTaskRows;
  at::parallel_for(0, threads, 1, [&](int64_t first, int64_t last) {
    for (int64_t share = first; share < last; ++share) {
      const int64_t begin = tasks * share / threads * kTaskRows;
      const int64_t end = std::min(rows, tasks * (share + 1) / threads * kTaskRows);
      if (begin < end) visit(share, begin, end - begin);
    }
  });
}

float* row(In x, int64_t r) { return x.mutable_data_ptr<float>() + r * x.size(1); }
const float* const_row(In x, int64_t r) { return x.const_data_ptr<float>() + r * x.size(1); }

}  // namespace

bool amx_suits(const BlockArguments& in) {
  return in.bfloat16 && in.x.size(0) >= kFewestRows && shape_of(in).suits_tiles() && amx_usable();
}

std::vector<Tensor> amx_block_forward(const BlockArguments& in) {
  Packed packed(in);
  packed.weights.pack_forward(bits(packed.qkv), bits(packed.output), bits(packed.gate_up),
                              bits(packed.down));
  const BlockWeights& weights = packed.weights;
  const int64_t rows = in.x.size(0), heads = weights.shape.heads;
  const Tensor x = in.x.contiguous(), qkv = at::empty({rows, weights.shape.qkv}, x.options());
  in_shares(rows, [&](int64_t, int64_t r, int64_t count) {
    block_input_rows(weights, const_row(x, r), row(qkv, r), count);
  });
  const auto [attended, lse] = in.attention(qkv);
  const Tensor mixed = at::empty(attended.sizes(), x.options().dtype(at::kBFloat16));
  const Tensor middle = at::empty(x.sizes(), x.options()), out = at::empty(x.sizes(), x.options());
  auto* mixed_bits = reinterpret_cast<uint16_t*>(mixed.mutable_data_ptr<c10::BFloat16>());
  in_shares(rows, [&, &attended = attended](int64_t, int64_t r, int64_t count) {
    block_output_rows(weights, const_row(x, r), const_row(attended, r), mixed_bits + r * heads,
                      row(middle, r), row(out, r), count);
  });
  return {out, qkv, mixed, lse, middle};
}

std::vector<Tensor> amx_block_backward(const BlockArguments& in, In grad, at::TensorList saved) {
  Packed packed(in);
  packed.weights.pack_backward(bits(packed.qkv), bits(packed.output), bits(packed.gate_up),
                               bits(packed.down));
  const BlockWeights& weights = packed.weights;
  const BlockShape& shape = weights.shape;
  const Tensor &qkv = saved[0], &mixed = saved[1], &lse = saved[2], &middle = saved[3];
  const Tensor x = in.x.contiguous(), d_out = grad.contiguous();
  const int64_t rows = x.size(0);
  const Tensor d_middle = at::empty(x.sizes(), x.options()), d_x = at::empty_like(x);
  const Tensor d_attended = at::empty({rows, shape.heads}, x.options());
  std::vector<BlockSums> sums(static_cast<size_t>(at::get_num_threads()), BlockSums(shape));
  in_shares(rows, [&](int64_t share, int64_t r, int64_t count) {
    block_output_backward_rows(weights, const_row(d_out, r), const_row(middle, r),
                               bits(mixed) + r * shape.heads, row(d_middle, r), row(d_attended, r),
                               sums[static_cast<size_t>(share)], count);
  });
  const Tensor d_qkv = in.attention_backward(d_attended, qkv, mixed, lse);
  in_shares(rows, [&](int64_t share, int64_t r, int64_t count) {
    block_input_backward_rows(weights, const_row(d_qkv, r), const_row(x, r), const_row(d_middle, r),
                              row(d_x, r), sums[static_cast<size_t>(share)], count);
  });
  for (size_t share = 1; share < sums.size(); ++share) sums[0].add(sums[share]);
  const auto like = [](In weight) { return at::empty(weight.sizes(), weight.options()); };
  std::vector<Tensor> out{d_x};
  for (size_t i = 0; i < 6; ++i) out.push_back(like(in.weights[i]));
  sums[0].unpack(shape, out[2].data_ptr<float>(), out[3].data_ptr<float>(),
                 out[5].data_ptr<float>(), out[6].data_ptr<float>());
  std::copy_n(sums[0].attention_norm(), shape.width, out[1].data_ptr<float>());
  std::copy_n(sums[0].mlp_norm(), shape.width, out[4].data_ptr<float>());
  if (in.has_bias()) out.push_back(d_qkv.sum(0));
  return out;
}

}  // namespace hone::kernels
