// CPU kernels against what bounds them on the same machine in the same run: the bare GEMMs of the
// head ops, a copy of the same bytes for the others. `hone bench kernels` runs this program.
//
//   kernels_bench --benchmark_filter=advantages
//   HONE_BENCH_THREADS=1 kernels_bench --benchmark_out=kernels.json --benchmark_out_format=json

#include "experiments/bench/kernels_bench.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>

namespace hone::bench {
namespace {

double milliseconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

/// memcpy of half of `bytes`, each read and written.
std::function<void()> copy_of(double bytes) {
  const auto floats = static_cast<int64_t>(bytes / 8);
  const at::Tensor from = at::randn({floats}), to = at::empty({floats});
  return [=] { to.copy_(from); };
}

/// The machine's two limits as rows of their own.
void BM_limit_copy(benchmark::State& state) {
  const auto bytes = static_cast<double>(state.range(0));
  compare(state, copy_of(bytes), copy_of(bytes), {.bytes = bytes});
}
BENCHMARK(BM_limit_copy)->Arg(8 << 20)->Arg(84 << 20)->UseManualTime();

void BM_limit_gemm(benchmark::State& state) {
  const int64_t n = state.range(0);
  const at::Tensor a = at::randn({n, n}), b = at::randn({n, n}), c = at::empty({n, n});
  const auto product = [=] {
    at::Tensor out = c;
    at::mm_out(out, a, b);
  };
  compare(state, product, product, {.flops = 2.0 * static_cast<double>(n * n * n)});
}
BENCHMARK(BM_limit_gemm)->Arg(1024)->UseManualTime();

}  // namespace

void compare(benchmark::State& state, const std::function<void()>& work,
             const std::function<void()>& bound, const Cost& cost) {
  work();
  bound();
  double least = milliseconds(work), least_bound = milliseconds(bound);
  const auto once = [&] {  // the least of several runs: the machine may be shared
    const double ms = milliseconds(work);
    least = std::min(least, ms);
    least_bound = std::min(least_bound, milliseconds(bound));
    return ms;
  };
  for (int i = 0; i < 10; ++i) once();
  for (auto _ : state) state.SetIterationTime(once() / 1e3);
  state.counters["ms"] = least;
  state.counters["bound_ms"] = least_bound;
  state.counters["percent_of_limit"] = 100 * least_bound / least;
  if (cost.bytes > 0) state.counters["bytes/s"] = cost.bytes / least * 1e3;
  if (cost.flops > 0) state.counters["FLOP/s"] = cost.flops / least * 1e3;
}

void compare_with_copy(benchmark::State& state, const std::function<void()>& work, double bytes) {
  compare(state, work, copy_of(bytes), {.bytes = bytes});
}

}  // namespace hone::bench

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  if (const char* threads = std::getenv("HONE_BENCH_THREADS"))
    at::set_num_threads(std::atoi(threads));
  benchmark::AddCustomContext("threads", std::to_string(at::get_num_threads()));
  if (const char* commit = std::getenv("HONE_COMMIT"))
    benchmark::AddCustomContext("commit", commit);
  at::manual_seed(1);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
