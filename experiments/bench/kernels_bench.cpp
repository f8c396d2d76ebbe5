// Kernels against what bounds them on the same machine in the same run: the bare GEMMs of the head
// ops, a copy of the same bytes for the others. `hone bench kernels` runs this program.
//
//   kernels_bench --benchmark_filter=advantages
//   kernels_bench --device cuda
//   HONE_BENCH_THREADS=1 kernels_bench --benchmark_out=kernels.json --benchmark_out_format=json

#include "experiments/bench/kernels_bench.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace hone::bench {
namespace {

at::Device the_device(at::kCPU);

double milliseconds(const std::function<void()>& work) {
  if (device().is_cpu()) {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
        .count();
  }
  // Larger than any second-level cache: what an earlier run left there does not help this one.
  static const at::Tensor flush = at::empty({64 << 20}, floats());
  flush.zero_();
  const c10::impl::VirtualGuardImpl guard(at::kCUDA);
  const c10::Stream stream = guard.getStream(device());
  c10::Event start(at::kCUDA, c10::EventFlag::BACKEND_DEFAULT);  // with a clock
  c10::Event end(at::kCUDA, c10::EventFlag::BACKEND_DEFAULT);
  start.record(stream);
  work();
  end.record(stream);
  end.synchronize();
  return start.elapsedTime(end);
}

/// Takes `--device NAME` out of the arguments.
std::string taken_device(int& argc, char** argv) {
  std::string name = "cpu";
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--device" && i + 1 < argc) {
      name = argv[++i];
    } else if (word.starts_with("--device=")) {
      name = word.substr(9);
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  return name;
}

constexpr int kWrongUse = 2, kNoGpu = 77;  // as scripts/gpu_check

/// 0, or the exit code after a word on stderr. The CUDA kernels are a library of their own, which
/// brings LibTorch's CUDA half with it.
int use_device(const std::string& name) {
  const auto refuse = [&](int code, const std::string& why) {
    std::fprintf(stderr, "kernels_bench: --device: %s\n", why.c_str());
    return code;
  };
  if (name == "cpu") return 0;
  if (name != "cuda") return refuse(kWrongUse, "expected cpu or cuda, got '" + name + "'");
  const auto library = std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path() /
                       "lib/libhone_kernels_cuda.so";
  if (!std::filesystem::exists(library)) {
    return refuse(kNoGpu, library.string() + ": expected (built with -DHONE_CUDA=ON), not found");
  }
  if (dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) return refuse(1, dlerror());
  if (!c10::impl::hasDeviceGuardImpl(at::kCUDA) ||
      c10::impl::VirtualGuardImpl(at::kCUDA).deviceCount() == 0) {
    return refuse(kNoGpu, "no NVIDIA GPU on this machine");
  }
  the_device = at::Device(at::kCUDA, 0);
  return 0;
}

/// memcpy of half of `bytes`, each read and written.
std::function<void()> copy_of(double bytes) {
  const auto size = static_cast<int64_t>(bytes / 8);
  const at::Tensor from = at::randn({size}, floats()), to = at::empty({size}, floats());
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
  const at::Tensor a = at::randn({n, n}, floats()), b = at::randn({n, n}, floats()),
                   c = at::empty({n, n}, floats());
  const auto product = [=] {
    at::Tensor out = c;
    at::mm_out(out, a, b);
  };
  compare(state, product, product, {.flops = 2.0 * static_cast<double>(n * n * n)});
}
BENCHMARK(BM_limit_gemm)->Arg(1024)->UseManualTime();

}  // namespace

at::Device device() { return the_device; }

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
  const std::string device = hone::bench::taken_device(argc, argv);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  if (const int code = hone::bench::use_device(device); code != 0) return code;
  benchmark::AddCustomContext("device", device);
  if (const char* threads = std::getenv("HONE_BENCH_THREADS"))
    at::set_num_threads(std::atoi(threads));
  benchmark::AddCustomContext("threads", std::to_string(at::get_num_threads()));
  if (const char* commit = std::getenv("HONE_COMMIT"))
    benchmark::AddCustomContext("commit", commit);
  at::manual_seed(1);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
