// One PPO iteration of a given policy on fixed sizes: what experiments/bench/peers/trl_ppo.py
// compares.
//
//   HONE_BENCH_MODEL=../shared/data/stories260k/hf ppo_bench
//
// 64 prompts x (16 + 64) tokens, 4 epochs, one minibatch an epoch
// (HONE_BENCH_{PROMPTS,PROMPT_TOKENS,NEW_TOKENS,EPOCHS,MINIBATCHES,MICRO_TOKENS} change them).
// Counters: seconds of rollout, scoring and update. HONE_BENCH_PRECISION=bf16: products in
// bfloat16. HONE_BENCH_DEVICE=cuda: on a GPU. HONE_BENCH_MODEL=random:H,L,heads,kv_heads,F,V:
// bench_model.h.

#include <benchmark/benchmark.h>

#include <cstdlib>
#include <random>
#include <string>

#include "engine/trainers/ppo_trainer.h"
#include "engine/trainers/reward_trainer.h"
#include "experiments/bench/bench_model.h"
#include "kernels/threads.h"

namespace {

using namespace hone::engine;

void BM_ppo_iteration(benchmark::State& state) {
  const char* path = std::getenv("HONE_BENCH_MODEL");
  if (!path) {
    state.SkipWithError("HONE_BENCH_MODEL: expected a Hugging Face directory, got nothing");
    return;
  }
  const auto actor = bench_model(path, bench_device());
  const auto reference = actor->copy(HeadKind::kLanguageModel);
  const auto critic = actor->copy(HeadKind::kScalar, 1);
  const auto reward_model = actor->copy(HeadKind::kScalar, 2);
  PpoProblem problem;
  problem.actor = actor.get();
  problem.reference = reference.get();
  problem.critic = critic.get();
  problem.reward_model = reward_model.get();
  problem.score = [&](const std::vector<TokenIds>& texts) {
    return score_sequences(*reward_model, texts);
  };
  problem.eos_ids = actor->config().eos_ids;
  std::mt19937_64 random(0);
  for (int64_t p = 0; p < size_of("PROMPTS", 64); ++p) {
    TokenIds prompt;
    for (int64_t t = 0; t < size_of("PROMPT_TOKENS", 16); ++t) {
      prompt.push_back(static_cast<int32_t>(
          3 + random() % static_cast<uint64_t>(actor->config().vocab_size - 3)));
    }
    problem.prompts.push_back(std::move(prompt));
  }
  PpoOptions options;
  options.iterations = 1;
  options.prompts_per_iteration = static_cast<int64_t>(problem.prompts.size());
  options.epochs = size_of("EPOCHS", 4);
  options.minibatches = size_of("MINIBATCHES", 1);
  if (const char* precision = std::getenv("HONE_BENCH_PRECISION")) options.precision = precision;
  options.micro_tokens = size_of("MICRO_TOKENS", 0);
  options.max_new_tokens = size_of("NEW_TOKENS", 64);
  options.kl_coef = 0.05;
  options.value_clip = 0.2;
  options.actor.lr = options.critic.lr = 3e-6;
  Metrics silent("", true);
  // The first iteration fills caches and, on a GPU, loads every kernel (TRL's is left out as well).
  train_ppo(problem, options, silent);
  double rollout = 0, scoring = 0, update = 0, tokens = 0;
  for (auto _ : state) {
    const auto result = train_ppo(problem, options, silent);
    rollout += result.seconds_rollout;
    scoring += result.seconds_scoring;
    update += result.seconds_update;
    tokens += static_cast<double>(result.tokens);
    problem.seed += 1;
  }
  const auto mean = benchmark::Counter::kAvgIterations;
  state.counters["rollout_seconds"] = benchmark::Counter(rollout, mean);
  state.counters["scoring_seconds"] = benchmark::Counter(scoring, mean);
  state.counters["update_seconds"] = benchmark::Counter(update, mean);
  state.counters["response_tokens"] = benchmark::Counter(tokens, mean);
}
BENCHMARK(BM_ppo_iteration)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace

int main(int argc, char** argv) {
  hone::kernels::flush_denormals();  // as `hone` does
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
