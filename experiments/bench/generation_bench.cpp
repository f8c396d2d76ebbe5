// Generation of a given policy, beside what the machine can do at most.
//
//   HONE_BENCH_MODEL=../shared/data/stories260k/hf generation_bench
//
// 64 prompts x (16 + 128) tokens by default (HONE_BENCH_{PROMPTS,PROMPT_TOKENS,NEW_TOKENS} change
// them); experiments/bench/peers/transformers_generate.py compares the same work. Counters:
// tokens_per_second; gflops of matrix products and attention, and their share of the peak that
// at::mm reaches here (of_gemm_peak); gigabytes of weights and cache that a step touches per second
// and their share of the memory bandwidth (of_bandwidth). The larger share is the nearer limit.

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

namespace {

using namespace hone::engine;
using Clock = std::chrono::steady_clock;

int64_t size_of(const char* name, int64_t otherwise) {
  const char* value = std::getenv((std::string("HONE_BENCH_") + name).c_str());
  return value ? std::atoll(value) : otherwise;
}

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

double gemm_peak() {
  constexpr int64_t kSize = 1024;
  const at::Tensor a = at::ones({kSize, kSize}), b = at::ones({kSize, kSize});
  at::Tensor c = at::empty({kSize, kSize});
  return best_rate(2.0 * kSize * kSize * kSize, [&] { at::mm_out(c, a, b); });
}

/// Bytes read and written by a copy that no cache holds.
double bandwidth() {
  const at::Tensor from = at::ones({int64_t{64} << 20});
  at::Tensor to = at::empty_like(from);
  return best_rate(2.0 * static_cast<double>(from.nbytes()), [&] { to.copy_(from); });
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
  const auto element = static_cast<double>(model.parameters().data().element_size());
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
  const auto model = load_model(path, HeadKind::kLanguageModel);
  const auto prompts = prompts_of(model->config().vocab_size);
  GenerationOptions options;
  options.max_new_tokens = size_of("NEW_TOKENS", 128);
  options.temperature = state.range(0) != 0 ? 1.0 : 0.0;
  options.use_stack = state.range(1) != 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(generate(*model, prompts, 1, options));
    ++options.seed;
  }
  static const double peak = gemm_peak(), memory = bandwidth();
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
    ->ArgNames({"sampled", "stack"})
    ->Args({1, 1})
    ->Args({0, 1})
    ->Args({1, 0})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
