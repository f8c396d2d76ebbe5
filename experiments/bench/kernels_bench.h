#pragma once

// How an op is timed beside what bounds it on the same machine in the same run; on a GPU with its
// events, after a write larger than its caches.

#include <ATen/core/Tensor.h>
#include <benchmark/benchmark.h>

#include <cstdint>
#include <functional>

namespace hone::bench {

/// What an op must at least move and do; 0 = not what bounds it.
struct Cost {
  double bytes = 0, flops = 0;
};

/// Where the benchmarks' tensors live: the CPU, or with --device cuda a GPU.
at::Device device();
inline at::TensorOptions floats() { return at::TensorOptions().device(device()); }
inline at::TensorOptions doubles() { return floats().dtype(at::kDouble); }
inline at::TensorOptions longs() { return floats().dtype(at::kLong); }

/// Times `work` and its bound (a copy of as many bytes, or the bare GEMMs) alternately, so that
/// both see the same machine. Counters: ms, bound_ms, bytes/s, FLOP/s, and percent_of_limit, which
/// is 100 where the op takes as long as its bound.
void compare(benchmark::State& state, const std::function<void()>& work,
             const std::function<void()>& bound, const Cost& cost);

/// compare() for an op bound by memory: `bytes` read and written together.
void compare_with_copy(benchmark::State& state, const std::function<void()>& work, double bytes);

}  // namespace hone::bench
