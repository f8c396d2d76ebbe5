// Generation of a given policy, beside what the machine can do at most.
//
//   HONE_BENCH_MODEL=../shared/data/stories260k/hf generation_bench
//
// 64 prompts x (16 + 128) tokens by default (HONE_BENCH_{PROMPTS,PROMPT_TOKENS,NEW_TOKENS} change
// them); experiments/bench/peers/transformers_generate.py compares the same work. Counters:
// tokens_per_second; gflops of matrix products and attention, and their share of the peak that
// at::mm reaches here (of_gemm_peak); gigabytes of weights and cache that a step touches per second
// and their share of the memory bandwidth (of_bandwidth). The larger share is the nearer limit.
// fast: the stack of kernels/cpu/decoder_stack.h, or, on a GPU (HONE_BENCH_DEVICE=cuda, products in
// bfloat16, HONE_BENCH_ROWS at once), recorded steps; without it every operation on its own.

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

#include "engine/generation/generator.h"
#include "engine/trainers/precision.h"
#include "experiments/bench/bench_model.h"

namespace {

using namespace hone::engine;
using Clock = std::chrono::steady_clock;

/// Best rate of ten calls of `work`, which does `amount`.
template <typename Work>
double best_rate(double amount, const Work& work) {
  double best = 0;
  for (int i = 0; i < 10; ++i) {
    const auto start = Clock::now();
    work();
    best = std::max(best, amount / std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

/// Reading a number waits for a GPU.
void wait_for(const at::Tensor& x) {
  if (!x.is_cpu()) static_cast<void>(x.flatten()[0].item<double>());
}

double gemm_peak(const at::TensorOptions& options) {
  const int64_t size = options.device().is_cpu() ? 1024 : 8192;
  const auto n = static_cast<double>(size);
  const at::Tensor a = at::ones({size, size}, options), b = at::ones({size, size}, options);
  at::Tensor c = at::empty({size, size}, options);
  return best_rate(2.0 * n * n * n, [&] {
    at::mm_out(c, a, b);
    wait_for(c);
  });
}

/// Bytes read and written by a copy that no cache holds.
double bandwidth(at::Device device) {
  const int64_t size = int64_t{device.is_cpu() ? 64 : 512} << 20;
  const at::Tensor from = at::ones({size}, at::TensorOptions().device(device));
  at::Tensor to = at::empty_like(from);
  return best_rate(2.0 * static_cast<double>(from.nbytes()), [&] {
    to.copy_(from);
    wait_for(to);
  });
}

std::vector<std::vector<int32_t>> prompts_of(int64_t vocab_size) {
  std::vector<std::vector<int32_t>> prompts;
  for (int64_t p = 0; p < size_of("PROMPTS", 64); ++p) {
    prompts.emplace_back();
    for (int64_t t = 0; t < size_of("PROMPT_TOKENS", 16); ++t) {
      prompts.back().push_back(static_cast<int32_t>(3 + (p * 31 + t * 17) % (vocab_size - 3)));
    }
  }
  return prompts;
}

struct Work {
  double tokens = 0, flops = 0, bytes = 0;
};

/// What the decode steps of a call do, every response being `new_tokens` long.
Work work_of(const CausalLM& model, int64_t rows, int64_t prompt_tokens, int64_t new_tokens) {
  const ModelConfig& c = model.config();
  double matrix = static_cast<double>(model.lm_head().numel());
  for (const auto& leaf : model.parameters().leaves()) {
    if (leaf.in_block()) matrix += static_cast<double>(leaf.numel);
  }
  const auto element = static_cast<double>(c10::elementSize(model.cache_type()));
  Work work;
  for (int64_t t = 0; t < new_tokens; ++t) {
    const auto context = static_cast<double>(prompt_tokens + t);
    const auto row_count = static_cast<double>(rows), layers = static_cast<double>(c.layers);
    const auto query = static_cast<double>(c.heads * c.head_dim);
    const auto cached = static_cast<double>(2 * c.kv_heads * c.head_dim);
    work.tokens += row_count;
    work.flops += row_count * (2.0 * matrix + 4.0 * context * query * layers);
    work.bytes += element * (matrix + row_count * context * cached * layers);
  }
  return work;
}

void BM_generate(benchmark::State& state) {
  const char* path = std::getenv("HONE_BENCH_MODEL");
  if (!path) {
    state.SkipWithError("HONE_BENCH_MODEL: expected a Hugging Face directory, got nothing");
    return;
  }
  const at::Device device = bench_device();
  const auto model = bench_model(path, device);
  const PrecisionScope precision({model.get()}, device.is_cpu() ? "float32" : "auto");
  const auto prompts = prompts_of(model->config().vocab_size);
  GenerationOptions options;
  options.max_new_tokens = size_of("NEW_TOKENS", 128);
  options.temperature = state.range(0) != 0 ? 1.0 : 0.0;
  options.use_stack = options.record_steps = state.range(1) != 0;
  options.max_rows = std::max<int64_t>(options.max_rows, size_of("ROWS", 0));
  // A GPU loads each kernel when it is first asked for.
  if (!device.is_cpu()) generate(*model, prompts, 1, options);
  for (auto _ : state) {
    benchmark::DoNotOptimize(generate(*model, prompts, 1, options));
    ++options.seed;
  }
  static const double peak = gemm_peak(
      at::TensorOptions().dtype(device.is_cpu() ? at::kFloat : model->cache_type()).device(device));
  static const double memory = bandwidth(device);
  const Work work = work_of(*model, static_cast<int64_t>(prompts.size()),
                            static_cast<int64_t>(prompts[0].size()), options.max_new_tokens);
  const auto rate = [](double amount) {
    return benchmark::Counter(amount, benchmark::Counter::kIsIterationInvariantRate);
  };
  state.counters["tokens_per_second"] = rate(work.tokens);
  state.counters["gflops"] = rate(work.flops / 1e9);
  state.counters["of_gemm_peak"] = rate(work.flops / peak);
  state.counters["of_bandwidth"] = rate(work.bytes / memory);
  state.counters["gemm_peak_gflops"] = peak / 1e9;
  state.counters["bandwidth_gbytes"] = memory / 1e9;
}
BENCHMARK(BM_generate)
    ->ArgNames({"sampled", "fast"})
    ->Args({1, 1})
    ->Args({0, 1})
    ->Args({1, 0})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
