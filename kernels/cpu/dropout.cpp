#include <algorithm>
#include <cstdint>

#include "kernels/math/philox.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/dropout.cpp"
#include "kernels/cpu/highway_targets.h"
// After the targets.
#include "hwy/foreach_target.h"
// After foreach_target.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {
namespace {

// Counters worked on together. Plain loops over arrays of this length: the compiler turns each
// into a few instructions of the target's widest vectors.
constexpr int64_t kCounters = 32;
constexpr int64_t kElements = 4 * kCounters;

/// draws[4*i + w] = word w of math::dropout_block(seed, first + i).
void draw(int64_t seed, uint64_t first, uint32_t* draws) {
  uint32_t x0[kCounters], x1[kCounters], x2[kCounters], x3[kCounters];
  for (int64_t i = 0; i < kCounters; ++i) {
    x0[i] = static_cast<uint32_t>(first + i);
    x1[i] = static_cast<uint32_t>((first + i) >> 32);
    x2[i] = 0;
    x3[i] = math::kDropoutDomain;
  }
  uint32_t key0 = static_cast<uint32_t>(static_cast<uint64_t>(seed));
  uint32_t key1 = static_cast<uint32_t>(static_cast<uint64_t>(seed) >> 32);
  for (int round = 0; round < math::kPhiloxRounds; ++round) {
    for (int64_t i = 0; i < kCounters; ++i) {
      const uint64_t product0 = static_cast<uint64_t>(math::kPhiloxMultiplier0) * x0[i];
      const uint64_t product1 = static_cast<uint64_t>(math::kPhiloxMultiplier1) * x2[i];
      x0[i] = static_cast<uint32_t>(product1 >> 32) ^ x1[i] ^ key0;
      x2[i] = static_cast<uint32_t>(product0 >> 32) ^ x3[i] ^ key1;
      x1[i] = static_cast<uint32_t>(product1);
      x3[i] = static_cast<uint32_t>(product0);
    }
    key0 += math::kPhiloxWeyl0;
    key1 += math::kPhiloxWeyl1;
  }
  for (int64_t i = 0; i < kCounters; ++i) {
    draws[4 * i] = x0[i];
    draws[4 * i + 1] = x1[i];
    draws[4 * i + 2] = x2[i];
    draws[4 * i + 3] = x3[i];
  }
}

/// Elements [begin, end), begin a multiple of kElements.
template <typename T>
void apply(const T* x, T* y, int64_t begin, int64_t end, int64_t seed, uint32_t threshold, T keep) {
  uint32_t draws[kElements];
  for (int64_t i = begin; i < end; i += kElements) {
    draw(seed, static_cast<uint64_t>(i) / 4, draws);
    const int64_t here = std::min(kElements, end - i);
    for (int64_t j = 0; j < here; ++j) y[i + j] = draws[j] < threshold ? T(0) : x[i + j] * keep;
  }
}

void apply_f32(const float* x, float* y, int64_t b, int64_t e, int64_t seed, uint32_t threshold,
               float keep) {
  apply(x, y, b, e, seed, threshold, keep);
}
void apply_f64(const double* x, double* y, int64_t b, int64_t e, int64_t seed, uint32_t threshold,
               double keep) {
  apply(x, y, b, e, seed, threshold, keep);
}

}  // namespace
}  // namespace hone::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "kernels/bfloat16.h"
#include "kernels/cpu/float_dispatch.h"
#include "kernels/model_inputs.h"

namespace hone::kernels {

HONE_EXPORT(apply);

namespace {

using at::Tensor;

// Elements of one task: a multiple of what `apply` works on together.
constexpr int64_t kTask = 8192;

Tensor dropout_cpu(const Tensor& x, double p, int64_t seed) {
  check_dropout(x, p);
  const Tensor in = computed(x);
  Tensor out = at::empty(x.sizes(), in.options());
  const int64_t size = x.numel();
  const uint32_t threshold = math::dropout_threshold(p);
  AT_DISPATCH_FLOATING_TYPES(in.scalar_type(), "dropout", [&] {
    const auto run = HONE_DISPATCH(scalar_t, apply);
    at::parallel_for(0, (size + kTask - 1) / kTask, 1, [&](int64_t begin, int64_t end) {
      run(in.const_data_ptr<scalar_t>(), out.data_ptr<scalar_t>(), begin * kTask,
          std::min(size, end * kTask), seed, threshold, static_cast<scalar_t>(1.0 / (1.0 - p)));
    });
  });
  return rounded(out, x);
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) { m.impl("dropout", &dropout_cpu); }

}  // namespace hone::kernels

#endif  // HWY_ONCE
