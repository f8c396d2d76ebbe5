// Advantages, losses and the optimizer: bound by memory.

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <vector>

#include "experiments/bench/kernels_bench.h"
#include "kernels/ops.h"

namespace hone::bench {
namespace {

using namespace hone::kernels;

/// Sequences of one length, or with `ragged` of every length up to twice that.
struct Rollout {
  int64_t sequences, tokens;
  Tensor cu, old, ref, values, scores;

  Rollout(int64_t rows, int64_t length, bool ragged) : sequences(rows) {
    Tensor lengths = at::full({rows}, length, longs());
    if (ragged) lengths = at::randint(0, 2 * length + 1, {rows}, longs());
    cu = at::cat({at::zeros({1}, longs()), lengths.cumsum(0)});
    tokens = cu[rows].item<int64_t>();
    old = at::randn({tokens}, floats()), ref = at::randn({tokens}, floats()),
    values = at::randn({tokens}, floats());
    scores = at::randn({rows}, floats());
  }
};

/// Arguments: rows, length, ragged. Reads three floats a token and writes two, 20 bytes.
void advantages_bench(benchmark::State& state, const AdvantageOptions& options) {
  const Rollout r(state.range(0), state.range(1), state.range(2) != 0);
  const Advantages out{at::empty({r.tokens}, floats()), at::empty({r.tokens}, floats()),
                       at::empty({0}, floats()), at::empty({4}, doubles())};
  AdvantageExtras extras;
  const bool vtrace = options.estimator == "vtrace";
  if (vtrace) extras.logp_behaviour = at::randn({r.tokens}, floats());
  compare_with_copy(
      state,
      [&] {
        advantages_into(out, r.old, r.ref, r.values, r.scores, r.cu, std::nullopt, options, extras);
      },
      (vtrace ? 24.0 : 20.0) * static_cast<double>(r.tokens));
  state.counters["elements/s"] = static_cast<double>(r.tokens) / state.counters["ms"].value * 1e3;
}
void BM_advantages(benchmark::State& state) {
  advantages_bench(state, {.kl_coef = 0.05, .store_rewards = false});
}
void BM_advantages_k3(benchmark::State& state) {
  advantages_bench(state, {.kl_coef = 0.05, .kl_estimator = "k3", .store_rewards = false});
}
void BM_advantages_vtrace(benchmark::State& state) {
  advantages_bench(state, {.kl_coef = 0.05, .estimator = "vtrace", .store_rewards = false});
}
BENCHMARK(BM_advantages)
    ->Args({256, 40, 0})
    ->Args({4096, 1024, 0})
    ->Args({16, 131072, 0})
    ->Args({8192, 256, 0})
    ->Args({1, 1 << 20, 0})
    ->Args({4096, 512, 1})
    ->UseManualTime();
BENCHMARK(BM_advantages_k3)->Args({4096, 1024, 0})->UseManualTime();
BENCHMARK(BM_advantages_vtrace)->Args({4096, 1024, 0})->UseManualTime();

/// Padded rows with a mask byte a token, half of them padding.
void BM_advantages_padded(benchmark::State& state) {
  const int64_t rows = state.range(0), width = state.range(1);
  const Tensor old = at::randn({rows, width}, floats()), ref = at::randn({rows, width}, floats()),
               values = at::randn({rows, width}, floats()), scores = at::randn({rows}, floats());
  const Tensor mask = at::arange(width, floats()) < at::randint(1, width + 1, {rows, 1}, longs());
  const Advantages out{at::empty({rows, width}, floats()), at::empty({rows, width}, floats()),
                       at::empty({0}, floats()), at::empty({4}, doubles())};
  const AdvantageOptions options{.kl_coef = 0.05, .store_rewards = false};
  const double trained = mask.sum().item<double>();
  compare_with_copy(
      state, [&] { advantages_into(out, old, ref, values, scores, std::nullopt, mask, options); },
      12 * trained + 9 * static_cast<double>(rows * width));
}
BENCHMARK(BM_advantages_padded)->Args({4096, 1024})->UseManualTime();

void BM_moments(benchmark::State& state) {
  const Tensor x = at::randn({state.range(0)}, floats());
  compare_with_copy(
      state, [&] { moments(x, std::nullopt); }, 4.0 * static_cast<double>(state.range(0)));
}
void BM_whiten(benchmark::State& state) {
  const Tensor x = at::randn({state.range(0)}, floats()), stats = moments(x, std::nullopt);
  compare_with_copy(
      state, [&] { whiten(x, stats, true, true); }, 8.0 * static_cast<double>(state.range(0)));
}
void BM_group_advantages(benchmark::State& state) {
  const Tensor scores = at::randn({state.range(0)}, floats());
  compare_with_copy(
      state, [&] { group_advantages(scores, 8, {}); }, 8.0 * static_cast<double>(state.range(0)));
}
BENCHMARK(BM_moments)->Arg(1 << 20)->UseManualTime();
BENCHMARK(BM_whiten)->Arg(1 << 20)->UseManualTime();
BENCHMARK(BM_group_advantages)->Arg(1 << 16)->Arg(1 << 20)->UseManualTime();

/// Forward and gradient: four reads, one write.
void BM_policy_loss(benchmark::State& state) {
  const int64_t n = state.range(0);
  const Tensor old = at::randn({n}, floats()) * 0.1, advantages = at::randn({n}, floats()),
               weights = at::full({n}, 1.0 / static_cast<double>(n), floats());
  const Tensor fresh = (old + 0.1 * at::randn({n}, floats())).requires_grad_(true);
  compare_with_copy(
      state, [&] { policy_loss(fresh, old, advantages, std::nullopt, weights, {}); },
      20.0 * static_cast<double>(n));
}
void BM_value_loss(benchmark::State& state) {
  const int64_t n = state.range(0);
  const Tensor old = at::randn({n}, floats()), returns = at::randn({n}, floats()),
               weights = at::full({n}, 1.0 / static_cast<double>(n), floats());
  const Tensor values = at::randn({n}, floats()).requires_grad_(true);
  compare_with_copy(
      state, [&] { value_loss(values, old, returns, weights, 0.2); },
      20.0 * static_cast<double>(n));
}
void BM_preference_loss(benchmark::State& state) {
  const int64_t n = state.range(0);
  const Tensor target = at::ones({n}, floats()),
               weights = at::full({n}, 1.0 / static_cast<double>(n), floats());
  const Tensor delta = at::randn({n}, floats()).requires_grad_(true);
  compare_with_copy(
      state, [&] { preference_loss(delta, target, weights, std::nullopt, {}); },
      16.0 * static_cast<double>(n));
}
BENCHMARK(BM_policy_loss)->Arg(1 << 20)->UseManualTime();
BENCHMARK(BM_value_loss)->Arg(1 << 20)->UseManualTime();
BENCHMARK(BM_preference_loss)->Arg(1 << 16)->Arg(1 << 20)->UseManualTime();

/// Reads four arenas, writes three: 28 bytes an element; mixed: a bfloat16 gradient read and a
/// bfloat16 copy written as well, 28.
void adamw_bench(benchmark::State& state, bool mixed) {
  const int64_t size = state.range(0);
  const Tensor param = at::randn({size}, floats()), m = at::zeros({size}, floats()),
               v = at::zeros({size}, floats());
  const Tensor grad = (at::randn({size}, floats()) * 1e-3).to(mixed ? at::kBFloat16 : at::kFloat);
  const Tensor rounded = at::empty({mixed ? size : 0}, floats().dtype(at::kBFloat16)),
               one = at::ones({}, floats());
  const std::vector<int64_t> offsets{0, size / 2, size};
  const std::vector<double> lr{1e-3, 1e-3}, decay{0.1, 0.0};
  int64_t step = 0;
  compare_with_copy(
      state,
      [&] {
        adamw_step(param, grad, m, v, offsets, lr, decay, one, ++step, {},
                   mixed ? OptionalTensor(rounded) : std::nullopt);
      },
      28.0 * static_cast<double>(size));
}
void BM_adamw(benchmark::State& state) { adamw_bench(state, false); }
void BM_adamw_bfloat16(benchmark::State& state) { adamw_bench(state, true); }
BENCHMARK(BM_adamw)->Arg(660000)->Arg(8000000)->UseManualTime();
BENCHMARK(BM_adamw_bfloat16)->Arg(8000000)->UseManualTime();

void BM_grad_norm(benchmark::State& state) {
  const Tensor grad = at::randn({state.range(0)}, floats());
  compare_with_copy(
      state, [&] { grad_norm(grad); }, 4.0 * static_cast<double>(state.range(0)));
}
void BM_scale(benchmark::State& state) {
  const Tensor x = at::randn({state.range(0)}, floats()), one = at::ones({}, doubles());
  compare_with_copy(
      state, [&] { scale(x, one); }, 8.0 * static_cast<double>(state.range(0)));
}
BENCHMARK(BM_grad_norm)->Arg(660000)->Arg(8000000)->UseManualTime();
BENCHMARK(BM_scale)->Arg(8000000)->UseManualTime();

}  // namespace
}  // namespace hone::bench
