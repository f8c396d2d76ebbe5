#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/checks.h"

namespace hone::kernels {
namespace {

using at::Tensor;

// Rows whose share of d weight is summed before it is added to the rest. A fixed number, so that
// the sum does not depend on threads.
constexpr int64_t kBlockRows = 128;

void check_rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  check::rank("rms_norm", "x", x, 2);
  check::floating("rms_norm", "x", x);
  check::sizes("rms_norm", "weight", weight, {x.size(1)}, "[H]");
  check::dtype("rms_norm", "weight", weight, x.scalar_type());
  check::same_device("rms_norm", "weight", weight, "x", x);
  HONE_CHECK(std::isfinite(eps) && eps >= 0, "rms_norm", "eps", "a finite number >= 0", eps);
}

template <typename T>
T inverse_rms(const T* x, int64_t size, double eps) {
  T sum = 0;
  for (int64_t j = 0; j < size; ++j) sum += x[j] * x[j];
  return T(1) / std::sqrt(sum / static_cast<T>(size) + static_cast<T>(eps));
}

Tensor rms_norm_cpu(const Tensor& x, const Tensor& weight, double eps) {
  check_rms_norm(x, weight, eps);
  const Tensor in = x.contiguous(), w = weight.contiguous();
  Tensor out = at::empty(x.sizes(), x.options());
  const int64_t size = x.size(1);
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "rms_norm", [&] {
    const scalar_t *source = in.const_data_ptr<scalar_t>(), *scale = w.const_data_ptr<scalar_t>();
    scalar_t* target = out.data_ptr<scalar_t>();
    at::parallel_for(0, x.size(0), kBlockRows, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const scalar_t* row = source + i * size;
        const scalar_t inverse = inverse_rms(row, size, eps);
        for (int64_t j = 0; j < size; ++j) target[i * size + j] = row[j] * inverse * scale[j];
      }
    });
  });
  return out;
}

/// d x = r*(w*g - x*r^2*mean(w*g*x)), d w += g*x*r for one row, r = 1/rms.
template <typename T>
void backward_row(const T* grad, const T* x, const T* weight, int64_t size, double eps, T* d_x,
                  T* d_weight) {
  const T r = inverse_rms(x, size, eps);
  T sum = 0;
  for (int64_t j = 0; j < size; ++j) sum += grad[j] * weight[j] * x[j];
  const T mean = sum / static_cast<T>(size) * r * r;
  for (int64_t j = 0; j < size; ++j) {
    d_x[j] = r * (grad[j] * weight[j] - x[j] * mean);
    d_weight[j] += grad[j] * x[j] * r;
  }
}

std::tuple<Tensor, Tensor> rms_norm_backward_cpu(const Tensor& grad, const Tensor& x,
                                                 const Tensor& weight, double eps) {
  const Tensor g = grad.contiguous(), in = x.contiguous(), w = weight.contiguous();
  const int64_t rows = x.size(0), size = x.size(1), blocks = (rows + kBlockRows - 1) / kBlockRows;
  Tensor d_x = at::empty(x.sizes(), x.options());
  Tensor d_weight = at::empty(weight.sizes(), weight.options());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "rms_norm", [&] {
    std::vector<scalar_t> partial(blocks * size, scalar_t(0));
    at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin * kBlockRows; i < std::min(rows, end * kBlockRows); ++i) {
        backward_row(g.const_data_ptr<scalar_t>() + i * size,
                     in.const_data_ptr<scalar_t>() + i * size, w.const_data_ptr<scalar_t>(), size,
                     eps, d_x.data_ptr<scalar_t>() + i * size,
                     partial.data() + i / kBlockRows * size);
      }
    });
    scalar_t* total = d_weight.data_ptr<scalar_t>();
    std::fill(total, total + size, scalar_t(0));
    for (int64_t b = 0; b < blocks; ++b) {
      for (int64_t j = 0; j < size; ++j) total[j] += partial[b * size + j];
    }
  });
  return {d_x, d_weight};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) {
  m.impl("rms_norm", &rms_norm_cpu);
  m.impl("_rms_norm_backward", &rms_norm_backward_cpu);
}

}  // namespace hone::kernels
