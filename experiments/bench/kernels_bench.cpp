// CPU kernels against what bounds them on the same machine in the same run: the bare GEMMs of the
// head ops, a copy of the same bytes for the others. Counters: `ms` of the op, `bound_ms` of its
// bound, `times_bound` = ms / bound_ms (1 is as good as it gets).
//
//   kernels_bench --benchmark_filter=attention
//   HONE_BENCH_THREADS=2 kernels_bench

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <vector>

#include "kernels/composite/chunked_head.h"
#include "kernels/ops.h"

namespace {

using namespace hone::kernels;

double milliseconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

/// Least of several runs: the machine may be shared.
double least_milliseconds(const std::function<void()>& work) {
  work();
  double least = milliseconds(work);
  for (int i = 0; i < 10; ++i) least = std::min(least, milliseconds(work));
  return least;
}

/// Times `work` and its bound alternately, so that both see the same machine.
void compare(benchmark::State& state, const std::function<void()>& work,
             const std::function<void()>& bound) {
  double least = least_milliseconds(work), least_bound = least_milliseconds(bound);
  for (auto _ : state) {
    const double ms = milliseconds(work);
    least = std::min(least, ms);
    least_bound = std::min(least_bound, milliseconds(bound));
    state.SetIterationTime(ms / 1e3);
  }
  state.counters["ms"] = least;
  state.counters["bound_ms"] = least_bound;
  state.counters["times_bound"] = least / least_bound;
}

/// memcpy of `bytes` read and as many written.
std::function<void()> copy_of(int64_t floats) {
  const Tensor from = at::randn({floats}), to = at::empty({floats});
  return [=] { to.copy_(from); };
}

struct Head {
  Tensor hidden, weight, targets, weights;

  explicit Head(const benchmark::State& state)
      : hidden(at::randn({state.range(0), state.range(1)})),
        weight(at::randn({state.range(2), state.range(1)}) * 0.1),
        targets(at::randint(state.range(2), {state.range(0)}, at::kLong)),
        weights(at::full({state.range(0)}, 1.0 / state.range(0))) {}

  /// The GEMMs of the op and nothing else, in its chunks.
  std::function<void()> gemms(bool gradients) const {
    const int64_t tokens = hidden.size(0);
    const int64_t rows = std::min(head_chunk_rows(tokens, weight.size(0)), tokens);
    const Tensor logits = at::empty({rows, weight.size(0)}), d_hidden = at::empty_like(hidden);
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
  compare(
      state, [&] { token_logprobs(head.hidden, head.weight, head.targets, 1.0); },
      head.gemms(false));
}
BENCHMARK(BM_token_logprobs)
    ->Args({1536, 128, 2048})
    ->Args({5120, 64, 512})
    ->Args({256, 64, 150000})
    ->UseManualTime();

void BM_head_nll(benchmark::State& state) {
  Head head(state);
  head.hidden.requires_grad_(true);
  head.weight.requires_grad_(true);
  const auto work = [&] {
    head_nll(head.hidden, head.weight, head.targets, head.weights, 1.0).loss.backward();
    head.hidden.mutable_grad().reset();
    head.weight.mutable_grad().reset();
  };
  compare(state, work, Head(state).gemms(true));
}
BENCHMARK(BM_head_nll)
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
  const Tensor cu = at::arange(sequences + 1, at::kLong) * length;
  const Tensor angles = at::rand({length, o.head_dim / 2});
  const Tensor cos = angles.cos(), sin = angles.sin();
  const Tensor qkv = at::randn({tokens, width}).requires_grad_(backward);
  const Tensor grad = at::randn({tokens, width / 3});
  const Tensor hidden = at::randn({tokens, width / 3}), weight = at::randn({width, width / 3});
  const auto work = [&] {
    const Tensor out = attention(qkv, cu, cos, sin, o);
    if (!backward) return;
    out.backward(grad);
    qkv.mutable_grad().reset();
  };
  compare(state, work, [&] { at::mm(hidden, weight.t()); });
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

void BM_decode_attention(benchmark::State& state) {
  const int64_t rows = state.range(0), position = state.range(1), block_size = 16;
  AttentionOptions o;
  o.heads = o.kv_heads = 4;
  o.head_dim = 32;
  const int64_t per_row = position / block_size + 1;
  const Tensor k = at::randn({rows * per_row, block_size, 4, 32}), v = at::randn_like(k);
  const Tensor table = at::arange(rows * per_row, at::kInt).view({rows, per_row});
  const Tensor positions = at::full({rows}, position, at::kLong);
  const Tensor angles = at::rand({position + 1, 16}), cos = angles.cos(), sin = angles.sin();
  const Tensor qkv = at::randn({rows, 3 * 128});
  compare(
      state, [&] { decode_attention(qkv, k, v, table, positions, cos, sin, o); },
      copy_of(rows * (position + 1) * 128));
}
BENCHMARK(BM_decode_attention)->Args({256, 40})->Args({64, 1000})->UseManualTime();

void BM_sample(benchmark::State& state) {
  const int64_t rows = state.range(0), vocabulary = state.range(1);
  const Tensor logits = at::randn({rows, vocabulary}) * 2;
  const Tensor i = at::arange(rows, at::kLong), keys = at::stack({i, i, i}, 1);
  SampleOptions o;
  o.temperature = 0.7;
  if (state.range(2) != 0) o.top_k = 50;
  if (state.range(3) != 0) o.top_p = 0.9;
  compare(
      state, [&] { sample(logits, keys, 1, o); }, copy_of(rows * vocabulary / 2));
}
BENCHMARK(BM_sample)
    ->Args({256, 2048, 0, 0})
    ->Args({256, 2048, 1, 0})
    ->Args({256, 2048, 0, 1})
    ->Args({16, 150000, 0, 0})
    ->UseManualTime();

void BM_rms_norm(benchmark::State& state) {
  const Tensor x = at::randn({state.range(0), state.range(1)}),
               weight = at::randn({state.range(1)});
  compare(
      state, [&] { rms_norm(x, weight, 1e-5); }, copy_of(x.numel()));
}
BENCHMARK(BM_rms_norm)->Args({1536, 128})->Args({65536, 256})->UseManualTime();

void BM_swiglu(benchmark::State& state) {
  const Tensor x = at::randn({state.range(0), 2 * state.range(1)});
  compare(
      state, [&] { swiglu(x); }, copy_of(x.numel() * 3 / 4));  // reads 2F, writes F
}
BENCHMARK(BM_swiglu)->Args({1536, 344})->Args({65536, 256})->UseManualTime();

void BM_dropout(benchmark::State& state) {
  const Tensor x = at::randn({state.range(0)});
  compare(
      state, [&] { hone::kernels::dropout(x, 0.1, 1); }, copy_of(state.range(0)));
}
BENCHMARK(BM_dropout)->Args({1536 * 128})->UseManualTime();

void BM_adamw(benchmark::State& state) {
  const int64_t size = state.range(0);
  const Tensor param = at::randn({size}), grad = at::randn({size}) * 1e-3;
  const Tensor m = at::zeros({size}), v = at::zeros({size}), one = at::ones({});
  const std::vector<int64_t> offsets{0, size / 2, size};
  const std::vector<double> lr{1e-3, 1e-3}, decay{0.1, 0.0};
  int64_t step = 0;
  compare(
      state, [&] { adamw_step(param, grad, m, v, offsets, lr, decay, one, ++step, {}); },
      copy_of(size * 7 / 2));  // reads four arenas, writes three
}
BENCHMARK(BM_adamw)->Args({660000})->Args({8000000})->UseManualTime();

void BM_grad_norm(benchmark::State& state) {
  const Tensor grad = at::randn({state.range(0)});
  compare(
      state, [&] { grad_norm(grad); }, copy_of(state.range(0) / 2));
}
BENCHMARK(BM_grad_norm)->Args({660000})->Args({8000000})->UseManualTime();

void BM_advantages(benchmark::State& state) {
  const int64_t sequences = state.range(0), length = state.range(1), tokens = sequences * length;
  const Tensor old = at::randn({tokens}), ref = at::randn({tokens}), values = at::randn({tokens});
  const Tensor scores = at::randn({sequences});
  const Tensor cu = at::arange(sequences + 1, at::kLong) * length;
  compare(
      state, [&] { advantages(old, ref, values, scores, cu, std::nullopt, {}); },
      copy_of(tokens * 3));  // reads three streams, writes three
}
BENCHMARK(BM_advantages)->Args({256, 40})->Args({4096, 1024})->UseManualTime();

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (const char* threads = std::getenv("HONE_BENCH_THREADS"))
    at::set_num_threads(std::atoi(threads));
  at::manual_seed(1);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
