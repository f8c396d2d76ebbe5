#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/scalar_tensor.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "kernels/adamw_arguments.h"
#include "kernels/checks.h"
#include "kernels/cpu/loss_rows.h"
#include "kernels/math/bfloat16.h"

namespace hone::kernels {
namespace {

using at::Tensor;

// Elements of one partial sum: fixed, so that the result does not depend on threads.
constexpr int64_t kBlock = 16384;
// Independent running sums inside a block, so that the additions do not wait for each other.
constexpr int64_t kLanes = 16;

template <typename T>
double sum_of_squares(const T* x, int64_t size) {
  if constexpr (std::is_same_v<T, float>) return moment_rows(x, size).squares;
  double lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (int64_t l = 0; l < kLanes; ++l) {
      const double value = math::widen(x[i + l]);
      lane[l] += value * value;
    }
  }
  for (; i < size; ++i) {
    const double value = math::widen(x[i]);
    lane[i % kLanes] += value * value;
  }
  double sum = 0;
  for (double part : lane) sum += part;
  return sum;
}

template <typename T>
double norm_of(const Tensor& grad) {
  const T* x = static_cast<const T*>(grad.const_data_ptr());
  const int64_t size = grad.numel(), blocks = (size + kBlock - 1) / kBlock;
  std::vector<double> partial(blocks);
  at::parallel_for(0, blocks, 2, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      partial[b] = sum_of_squares(x + b * kBlock, std::min(kBlock, size - b * kBlock));
    }
  });
  double sum = 0;
  for (double part : partial) sum += part;
  return std::sqrt(sum);
}

Tensor grad_norm_cpu(const Tensor& grad) {
  check::model_floating("grad_norm", "grad", grad);
  const Tensor in = grad.contiguous();
  const double norm = in.scalar_type() == at::kDouble  ? norm_of<double>(in)
                      : in.scalar_type() == at::kFloat ? norm_of<float>(in)
                                                       : norm_of<math::Bfloat16>(in);
  return at::scalar_tensor(norm, grad.options().dtype(at::kDouble));
}

template <typename T>
void scale_arena(const Tensor& x, double factor) {
  using C = math::Compute<T>;
  T* data = static_cast<T*>(x.mutable_data_ptr());
  at::parallel_for(0, x.numel(), 65536, [&](int64_t begin, int64_t end) {
    const C by = static_cast<C>(factor);
    for (int64_t i = begin; i < end; ++i) math::narrow(C(math::widen(data[i]) * by), data[i]);
  });
}

void scale_cpu(const Tensor& x, const Tensor& factor) {
  check_scale(x, factor);
  const double by = factor.item<double>();
  if (x.scalar_type() == at::kDouble) return scale_arena<double>(x, by);
  if (x.scalar_type() == at::kFloat) return scale_arena<float>(x, by);
  scale_arena<math::Bfloat16>(x, by);
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) {
  m.impl("grad_norm", &grad_norm_cpu);
  m.impl("scale", &scale_cpu);
}

}  // namespace hone::kernels
