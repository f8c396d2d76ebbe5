#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>

#include "kernels/checks.h"
#include "kernels/math/philox.h"

namespace hone::kernels {
namespace {

using at::Tensor;

Tensor dropout_cpu(const Tensor& x, double p, int64_t seed) {
  check::floating("dropout", "x", x);
  HONE_CHECK(p >= 0 && p < 1, "dropout", "p", "a number in [0, 1)", p);
  const Tensor in = x.contiguous();
  Tensor out = at::empty(x.sizes(), x.options());
  const int64_t size = x.numel();
  const uint32_t threshold = math::dropout_threshold(p);
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "dropout", [&] {
    const scalar_t keep = static_cast<scalar_t>(1.0 / (1.0 - p));
    const scalar_t* source = in.const_data_ptr<scalar_t>();
    scalar_t* target = out.data_ptr<scalar_t>();
    at::parallel_for(0, (size + 3) / 4, 1024, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) {
        const math::PhiloxBlock draw = math::dropout_block(seed, block);
        for (int64_t i = block * 4; i < std::min(size, block * 4 + 4); ++i) {
          target[i] = draw.word[i & 3] < threshold ? scalar_t(0) : source[i] * keep;
        }
      }
    });
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) { m.impl("dropout", &dropout_cpu); }

}  // namespace hone::kernels
