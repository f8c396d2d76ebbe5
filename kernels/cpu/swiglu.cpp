#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>

#include "kernels/checks.h"

namespace hone::kernels {
namespace {

using at::Tensor;

int64_t rows_per_task(int64_t width) {
  return std::max<int64_t>(1, 16384 / std::max<int64_t>(width, 1));
}

Tensor swiglu_cpu(const Tensor& x) {
  check::rank("swiglu", "x", x, 2);
  check::floating("swiglu", "x", x);
  HONE_CHECK(x.size(1) % 2 == 0, "swiglu", "x", "[N,2F]", check::describe(x));
  const Tensor in = x.contiguous();
  const int64_t size = x.size(1) / 2;
  Tensor out = at::empty({x.size(0), size}, x.options());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "swiglu", [&] {
    at::parallel_for(0, x.size(0), rows_per_task(size), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const scalar_t* row = in.const_data_ptr<scalar_t>() + i * 2 * size;
        scalar_t* y = out.data_ptr<scalar_t>() + i * size;
        for (int64_t j = 0; j < size; ++j) y[j] = row[j] / (1 + std::exp(-row[j])) * row[size + j];
      }
    });
  });
  return out;
}

Tensor swiglu_backward_cpu(const Tensor& grad, const Tensor& x) {
  const Tensor g = grad.contiguous(), in = x.contiguous();
  const int64_t size = x.size(1) / 2;
  Tensor d_x = at::empty(x.sizes(), x.options());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "swiglu", [&] {
    at::parallel_for(0, x.size(0), rows_per_task(size), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const scalar_t* row = in.const_data_ptr<scalar_t>() + i * 2 * size;
        const scalar_t* dy = g.const_data_ptr<scalar_t>() + i * size;
        scalar_t* dx = d_x.data_ptr<scalar_t>() + i * 2 * size;
        for (int64_t j = 0; j < size; ++j) {
          const scalar_t gate = row[j], sigmoid = 1 / (1 + std::exp(-gate));
          dx[j] = dy[j] * row[size + j] * sigmoid * (1 + gate * (1 - sigmoid));
          dx[size + j] = dy[j] * gate * sigmoid;
        }
      }
    });
  });
  return d_x;
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) {
  m.impl("swiglu", &swiglu_cpu);
  m.impl("_swiglu_backward", &swiglu_backward_cpu);
}

}  // namespace hone::kernels
