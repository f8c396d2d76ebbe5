#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/scalar_tensor.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/checks.h"

namespace hone::kernels {
namespace {

using at::Tensor;

// Elements of one partial sum: fixed, so that the result does not depend on threads.
constexpr int64_t kBlock = 16384;
// Independent running sums inside a block, so that the additions do not wait for each other.
constexpr int64_t kLanes = 16;

template <typename T>
double sum_of_squares(const T* x, int64_t size) {
  double lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (int64_t l = 0; l < kLanes; ++l) {
      const double value = x[i + l];
      lane[l] += value * value;
    }
  }
  for (; i < size; ++i) lane[i % kLanes] += static_cast<double>(x[i]) * x[i];
  double sum = 0;
  for (double part : lane) sum += part;
  return sum;
}

Tensor grad_norm_cpu(const Tensor& grad) {
  check::floating("grad_norm", "grad", grad);
  const Tensor in = grad.contiguous();
  const int64_t size = in.numel(), blocks = (size + kBlock - 1) / kBlock;
  std::vector<double> partial(blocks);
  AT_DISPATCH_FLOATING_TYPES(grad.scalar_type(), "grad_norm", [&] {
    const scalar_t* x = in.const_data_ptr<scalar_t>();
    at::parallel_for(0, blocks, 2, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        partial[b] = sum_of_squares(x + b * kBlock, std::min(kBlock, size - b * kBlock));
      }
    });
  });
  double sum = 0;
  for (double part : partial) sum += part;
  return at::scalar_tensor(std::sqrt(sum), grad.options().dtype(at::kDouble));
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) { m.impl("grad_norm", &grad_norm_cpu); }

}  // namespace hone::kernels
