// The model ops: head, attention, norms, sampling, dropout.

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <vector>

#include "experiments/bench/kernels_bench.h"
#include "kernels/composite/chunked_head.h"
#include "kernels/composite/device_head.h"
#include "kernels/cpu/amx.h"
#include "kernels/ops.h"

namespace hone::bench {
namespace {

using namespace hone::kernels;

struct Head {
  Tensor hidden, weight, targets, weights;

  explicit Head(const benchmark::State& state)
      : hidden(at::randn({state.range(0), state.range(1)}, floats())),
        weight(at::randn({state.range(2), state.range(1)}, floats()) * 0.1),
        targets(at::randint(state.range(2), {state.range(0)}, longs())),
        weights(at::full({state.range(0)}, 1.0 / state.range(0), floats())) {}

  double flops(int gemms) const {
    return 2.0 * gemms * static_cast<double>(hidden.numel()) * static_cast<double>(weight.size(0));
  }

  /// The GEMMs of the op and nothing else, in its chunks.
  std::function<void()> gemms(bool gradients) const {
    const int64_t tokens = hidden.size(0);
    const int64_t vocabulary = weight.size(0);
    const int64_t rows =
        std::min(device().is_cpu() ? head_chunk_rows(tokens, vocabulary)
                                   : device_head_chunk_rows(tokens, vocabulary, hidden.size(1)),
                 tokens);
    const Tensor logits = at::empty({rows, weight.size(0)}, floats()),
                 d_hidden = at::empty_like(hidden);
    const Tensor d_weight = at::zeros_like(weight);
    return [=, *this] {
      for (int64_t begin = 0; begin < tokens; begin += rows) {
        const int64_t n = std::min(rows, tokens - begin);
        const Tensor h = hidden.narrow(0, begin, n);
        Tensor chunk = logits.narrow(0, 0, n), d_h = d_hidden.narrow(0, begin, n), d_w = d_weight;
        at::mm_out(chunk, h, weight.t());
        if (!gradients) continue;
        at::mm_out(d_h, chunk, weight);
        at::addmm_out(d_w, d_w, chunk.t(), h, 0.5, 1e-6);  // factors keep repeated sums bounded
      }
    };
  }
};

void BM_token_logprobs(benchmark::State& state) {
  const Head head(state);
  compare(state, [&] { token_logprobs(head.hidden, head.weight, head.targets, 1.0); },
          head.gemms(false), {.flops = head.flops(1)});
}
BENCHMARK(BM_token_logprobs)
    ->Args({1536, 128, 2048})
    ->Args({5120, 64, 512})
    ->Args({256, 64, 150000})
    ->UseManualTime();

/// Logits are made again in backward: four GEMMs.
void BM_token_logprobs_with_backward(benchmark::State& state) {
  Head head(state);
  head.hidden.requires_grad_(true);
  head.weight.requires_grad_(true);
  const auto work = [&] {
    token_logprobs(head.hidden, head.weight, head.targets, 1.0).logprobs.backward(head.weights);
    head.hidden.mutable_grad().reset();
    head.weight.mutable_grad().reset();
  };
  const Head plain(state);
  const auto gemms = [again = plain.gemms(false), rest = plain.gemms(true)] {
    again();
    rest();
  };
  compare(state, work, gemms, {.flops = head.flops(4)});
}
BENCHMARK(BM_token_logprobs_with_backward)->Args({4096, 256, 32000})->UseManualTime();

void BM_head_nll(benchmark::State& state) {
  Head head(state);
  head.hidden.requires_grad_(true);
  head.weight.requires_grad_(true);
  const auto work = [&] {
    head_nll(head.hidden, head.weight, head.targets, head.weights, 1.0).loss.backward();
    head.hidden.mutable_grad().reset();
    head.weight.mutable_grad().reset();
  };
  compare(state, work, Head(state).gemms(true), {.flops = head.flops(3)});
}
BENCHMARK(BM_head_nll)
    ->Args({4096, 256, 32000})
    ->Args({1536, 128, 2048})
    ->Args({5120, 64, 512})
    ->Args({256, 64, 150000})
    ->UseManualTime();

/// Against the projection that makes qkv (hidden size = heads * head_dim), a GEMM of one pass.
void attention_bench(benchmark::State& state, bool backward) {
  const int64_t sequences = state.range(0), length = state.range(1);
  AttentionOptions o;
  o.heads = state.range(2);
  o.kv_heads = state.range(2);
  o.head_dim = state.range(3);
  const int64_t tokens = sequences * length, width = 3 * o.heads * o.head_dim;
  const Tensor cu = at::arange(sequences + 1, longs()) * length;
  const Tensor angles = at::rand({length, o.head_dim / 2}, floats());
  const Tensor cos = angles.cos(), sin = angles.sin();
  const Tensor qkv = at::randn({tokens, width}, floats()).requires_grad_(backward);
  const Tensor grad = at::randn({tokens, width / 3}, floats());
  const Tensor hidden = at::randn({tokens, width / 3}, floats()),
               weight = at::randn({width, width / 3}, floats());
  const auto work = [&] {
    const Tensor out = attention(qkv, cu, cos, sin, o);
    if (!backward) return;
    out.backward(grad);
    qkv.mutable_grad().reset();
  };
  compare(state, work, [&] { at::mm(hidden, weight.t()); }, {});
}
void BM_attention(benchmark::State& state) { attention_bench(state, false); }
void BM_attention_with_backward(benchmark::State& state) { attention_bench(state, true); }
BENCHMARK(BM_attention)
    ->Args({38, 40, 4, 32})
    ->Args({64, 80, 8, 8})
    ->Args({2, 2048, 4, 64})
    ->UseManualTime();
BENCHMARK(BM_attention_with_backward)
    ->Args({38, 40, 4, 32})
    ->Args({64, 80, 8, 8})
    ->Args({2, 2048, 4, 64})
    ->UseManualTime();

/// A block with its gradients in bfloat16: in the matrix unit, against the same op with MKL's
/// products and attention in float32. Skipped where there is no matrix unit.
void BM_transformer_block_bfloat16(benchmark::State& state) {
  if (!device().is_cpu() || !amx_usable()) {
    state.SkipWithError("AMX: expected a CPU that has it, got none");
    return;
  }
  const int64_t sequences = state.range(0), length = state.range(1), width = state.range(2);
  AttentionOptions o;
  o.head_dim = state.range(3);
  o.heads = width / o.head_dim;
  o.kv_heads = o.heads / 2;
  const int64_t gate = width * 8 / 3, qkv = (o.heads + 2 * o.kv_heads) * o.head_dim;
  const Tensor cu = at::arange(sequences + 1, longs()) * length;
  const Tensor angles = at::rand({length, o.head_dim / 2}, floats());
  const auto leaf = [](at::IntArrayRef sizes) {
    return (at::randn(sizes, floats()) * 0.1).requires_grad_(true);
  };
  std::vector<Tensor> leaves{leaf({width}), leaf({qkv, width}),      leaf({width, width}),
                             leaf({width}), leaf({2 * gate, width}), leaf({width, gate})};
  const std::vector<Tensor> weights = leaves;
  leaves.push_back(leaf({sequences * length, width}));
  const Tensor grad = at::randn({sequences * length, width}, floats());
  const auto work = [&] {
    transformer_block(leaves.back(), weights, cu, angles.cos(), angles.sin(), o, 1e-5, true)
        .backward(grad);
    for (Tensor& each : leaves) each.mutable_grad().reset();
  };
  compare(state, work,
          [&] {
            use_amx(false);
            work();
            use_amx(true);
          },
          {});
}
BENCHMARK(BM_transformer_block_bfloat16)
    ->Args({64, 80, 64, 8})
    ->Args({32, 128, 128, 32})
    ->Args({8, 512, 256, 64})
    ->UseManualTime();

void BM_decode_attention(benchmark::State& state) {
  const int64_t rows = state.range(0), position = state.range(1), block_size = 16;
  AttentionOptions o;
  o.heads = o.kv_heads = 4;
  o.head_dim = 32;
  const int64_t per_row = position / block_size + 1;
  const Tensor k = at::randn({rows * per_row, block_size, 4, 32}, floats()), v = at::randn_like(k);
  const Tensor table = at::arange(rows * per_row, floats().dtype(at::kInt)).view({rows, per_row});
  const Tensor positions = at::full({rows}, position, longs());
  const Tensor angles = at::rand({position + 1, 16}, floats()), cos = angles.cos(),
               sin = angles.sin();
  const Tensor qkv = at::randn({rows, 3 * 128}, floats());
  compare_with_copy(
      state, [&] { decode_attention(qkv, k, v, table, positions, cos, sin, o); },
      8.0 * (rows * (position + 1) * 128));
}
BENCHMARK(BM_decode_attention)->Args({256, 40})->Args({64, 1000})->UseManualTime();

void BM_sample(benchmark::State& state) {
  const int64_t rows = state.range(0), vocabulary = state.range(1);
  const Tensor logits = at::randn({rows, vocabulary}, floats()) * 2;
  const Tensor i = at::arange(rows, longs()), keys = at::stack({i, i, i}, 1);
  SampleOptions o;
  o.temperature = 0.7;
  if (state.range(2) != 0) o.top_k = 50;
  if (state.range(3) != 0) o.top_p = 0.9;
  compare_with_copy(
      state, [&] { sample(logits, keys, 1, o); }, 8.0 * (rows * vocabulary / 2));
}
BENCHMARK(BM_sample)
    ->Args({256, 2048, 0, 0})
    ->Args({256, 2048, 1, 0})
    ->Args({256, 2048, 0, 1})
    ->Args({16, 150000, 0, 0})
    ->UseManualTime();

void BM_rms_norm(benchmark::State& state) {
  const Tensor x = at::randn({state.range(0), state.range(1)}, floats()),
               weight = at::randn({state.range(1)}, floats());
  compare_with_copy(
      state, [&] { rms_norm(x, weight, 1e-5); }, 8.0 * (x.numel()));
}
BENCHMARK(BM_rms_norm)->Args({1536, 128})->Args({65536, 256})->UseManualTime();

void BM_swiglu(benchmark::State& state) {
  const Tensor x = at::randn({state.range(0), 2 * state.range(1)}, floats());
  compare_with_copy(
      state, [&] { swiglu(x); }, 8.0 * (x.numel() * 3 / 4));  // reads 2F, writes F
}
BENCHMARK(BM_swiglu)->Args({1536, 344})->Args({65536, 256})->UseManualTime();

void BM_dropout(benchmark::State& state) {
  const Tensor x = at::randn({state.range(0)}, floats());
  compare_with_copy(
      state, [&] { hone::kernels::dropout(x, 0.1, 1); }, 8.0 * (state.range(0)));
}
BENCHMARK(BM_dropout)->Args({1536 * 128})->UseManualTime();

}  // namespace
}  // namespace hone::bench
