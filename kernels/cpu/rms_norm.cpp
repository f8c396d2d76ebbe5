#include <cmath>
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rms_norm.cpp"
#include "kernels/cpu/highway_targets.h"
// After the targets.
#include "hwy/foreach_target.h"
// After foreach_target.
#include "hwy/highway.h"
#include "kernels/cpu/bfloat16-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {
namespace {

/// Sum of term(tag, j) over [0, size): two running vectors, then single elements.
template <typename T, typename Term>
HWY_INLINE T sum_terms(int64_t size, const Term& term) {
  const hn::ScalableTag<T> d;
  const hn::CappedTag<T, 1> one;
  const int64_t lanes = hn::Lanes(d);
  auto sum0 = hn::Zero(d), sum1 = hn::Zero(d);
  int64_t j = 0;
  for (; j + 2 * lanes <= size; j += 2 * lanes) {
    sum0 = term(d, j, sum0);
    sum1 = term(d, j + lanes, sum1);
  }
  if (j + lanes <= size) {
    sum0 = term(d, j, sum0);
    j += lanes;
  }
  auto rest = hn::Zero(one);
  for (; j < size; ++j) rest = term(one, j, rest);
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1))) + hn::GetLane(rest);
}

template <typename T>
HWY_INLINE T inverse_rms(const T* x, int64_t size, T eps) {
  const T sum = sum_terms<T>(size, [&](auto d, int64_t j, auto sum) {
    const auto v = hn::LoadU(d, x + j);
    return hn::MulAdd(v, v, sum);
  });
  return T(1) / std::sqrt(sum / static_cast<T>(size) + eps);
}

template <typename T, typename G>
void forward(const T* x, const T* weight, G* y, int64_t rows, int64_t size, T eps) {
  for (int64_t i = 0; i < rows; ++i, x += size, y += size) {
    const T r = inverse_rms(x, size, eps);
    for_lanes<T>(size, [&](auto d, int64_t j) {
      const auto normal = hn::Mul(hn::LoadU(d, x + j), hn::Set(d, r));
      store(hn::Mul(normal, hn::LoadU(d, weight + j)), d, y + j);
    });
  }
}

/// With r = 1/rms: d x = residual + r*(w*g - x*r^2*mean(w*g*x)); d w += g*x*r. y, if not null, is
/// the forward result once more.
template <typename T, typename G>
void backward(const T* grad, const T* x, const T* weight, const T* residual, T* d_x, T* d_weight,
              G* y, int64_t rows, int64_t size, T eps) {
  for (int64_t i = 0; i < rows; ++i, x += size, grad += size, d_x += size) {
    const T r = inverse_rms(x, size, eps);
    const T sum = sum_terms<T>(size, [&](auto d, int64_t j, auto sum) {
      const auto wg = hn::Mul(hn::LoadU(d, grad + j), hn::LoadU(d, weight + j));
      return hn::MulAdd(wg, hn::LoadU(d, x + j), sum);
    });
    const T mean = sum / static_cast<T>(size) * r * r;
    for_lanes<T>(size, [&](auto d, int64_t j) {
      const auto g = hn::LoadU(d, grad + j), v = hn::LoadU(d, x + j), scale = hn::Set(d, r);
      const auto w = hn::LoadU(d, weight + j), wg = hn::Mul(g, w);
      if (y) store(hn::Mul(hn::Mul(v, scale), w), d, y + j);
      const auto through = hn::Mul(scale, hn::NegMulAdd(v, hn::Set(d, mean), wg));
      hn::StoreU(residual ? hn::Add(hn::LoadU(d, residual + j), through) : through, d, d_x + j);
      const auto total = hn::LoadU(d, d_weight + j);
      hn::StoreU(hn::MulAdd(hn::Mul(g, v), scale, total), d, d_weight + j);
    });
    if (residual) residual += size;
    if (y) y += size;
  }
}

void forward_f32(const float* x, const float* w, float* y, int64_t n, int64_t h, float eps) {
  forward(x, w, y, n, h, eps);
}
void forward_f64(const double* x, const double* w, double* y, int64_t n, int64_t h, double eps) {
  forward(x, w, y, n, h, eps);
}
void forward_bf16(const float* x, const float* w, c10::BFloat16* y, int64_t n, int64_t h,
                  float eps) {
  forward(x, w, y, n, h, eps);
}
void backward_f32(const float* g, const float* x, const float* w, const float* r, float* dx,
                  float* dw, float* y, int64_t n, int64_t h, float eps) {
  backward(g, x, w, r, dx, dw, y, n, h, eps);
}
void backward_f64(const double* g, const double* x, const double* w, const double* r, double* dx,
                  double* dw, double* y, int64_t n, int64_t h, double eps) {
  backward(g, x, w, r, dx, dw, y, n, h, eps);
}
void backward_bf16(const float* g, const float* x, const float* w, const float* r, float* dx,
                   float* dw, c10::BFloat16* y, int64_t n, int64_t h, float eps) {
  backward(g, x, w, r, dx, dw, y, n, h, eps);
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

#include <algorithm>
#include <type_traits>
#include <vector>

#include "kernels/bfloat16.h"
#include "kernels/cpu/float_dispatch.h"
#include "kernels/cpu/row_kernels.h"
#include "kernels/model_inputs.h"

namespace hone::kernels {

HONE_EXPORT(forward);
HONE_EXPORT(backward);
HWY_EXPORT(forward_bf16);
HWY_EXPORT(backward_bf16);

template <typename T, typename G>
void rms_norm_rows(const T* x, const T* weight, G* y, int64_t rows, int64_t size, T eps) {
  if constexpr (std::is_same_v<T, G>) {
    HONE_DISPATCH(T, forward)(x, weight, y, rows, size, eps);
  } else {
    HWY_DYNAMIC_DISPATCH(forward_bf16)(x, weight, y, rows, size, eps);
  }
}

template <typename T, typename G>
void rms_norm_backward_rows(const T* grad, const T* x, const T* weight, const T* residual, T* d_x,
                            T* d_weight, G* y, int64_t rows, int64_t size, T eps) {
  if constexpr (std::is_same_v<T, G>) {
    HONE_DISPATCH(T, backward)(grad, x, weight, residual, d_x, d_weight, y, rows, size, eps);
  } else {
    HWY_DYNAMIC_DISPATCH(backward_bf16)
    (grad, x, weight, residual, d_x, d_weight, y, rows, size, eps);
  }
}

template void rms_norm_rows(const float*, const float*, float*, int64_t, int64_t, float);
template void rms_norm_rows(const double*, const double*, double*, int64_t, int64_t, double);
template void rms_norm_rows(const float*, const float*, c10::BFloat16*, int64_t, int64_t, float);
template void rms_norm_backward_rows(const float*, const float*, const float*, const float*, float*,
                                     float*, float*, int64_t, int64_t, float);
template void rms_norm_backward_rows(const double*, const double*, const double*, const double*,
                                     double*, double*, double*, int64_t, int64_t, double);
template void rms_norm_backward_rows(const float*, const float*, const float*, const float*, float*,
                                     float*, c10::BFloat16*, int64_t, int64_t, float);

namespace {

using at::Tensor;

// Rows whose share of d weight is summed before it is added to the rest. A fixed number, so that
// the sum does not depend on threads.
constexpr int64_t kBlockRows = 128;

Tensor rms_norm_cpu(const Tensor& x, const Tensor& weight, double eps) {
  check_rms_norm(x, weight, eps);
  const Tensor in = computed(x), w = computed(weight);
  Tensor out = at::empty(x.sizes(), in.options());
  const int64_t size = x.size(1);
  AT_DISPATCH_FLOATING_TYPES(in.scalar_type(), "rms_norm", [&] {
    at::parallel_for(0, x.size(0), kBlockRows, [&](int64_t begin, int64_t end) {
      rms_norm_rows<scalar_t, scalar_t>(
          in.const_data_ptr<scalar_t>() + begin * size, w.const_data_ptr<scalar_t>(),
          out.data_ptr<scalar_t>() + begin * size, end - begin, size, static_cast<scalar_t>(eps));
    });
  });
  return rounded(out, x);
}

std::tuple<Tensor, Tensor> rms_norm_backward_cpu(const Tensor& grad, const Tensor& x,
                                                 const Tensor& weight, double eps) {
  const Tensor g = computed(grad), in = computed(x), w = computed(weight);
  const int64_t rows = x.size(0), size = x.size(1), blocks = (rows + kBlockRows - 1) / kBlockRows;
  Tensor d_x = at::empty(x.sizes(), in.options());
  Tensor d_weight = at::empty(weight.sizes(), w.options());
  AT_DISPATCH_FLOATING_TYPES(in.scalar_type(), "rms_norm", [&] {
    std::vector<scalar_t> partial(blocks * size, scalar_t(0));
    at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        const int64_t first = b * kBlockRows;
        rms_norm_backward_rows<scalar_t, scalar_t>(
            g.const_data_ptr<scalar_t>() + first * size,
            in.const_data_ptr<scalar_t>() + first * size, w.const_data_ptr<scalar_t>(), nullptr,
            d_x.data_ptr<scalar_t>() + first * size, partial.data() + b * size, nullptr,
            std::min(kBlockRows, rows - first), size, static_cast<scalar_t>(eps));
      }
    });
    scalar_t* total = d_weight.data_ptr<scalar_t>();
    std::fill(total, total + size, scalar_t(0));
    for (int64_t b = 0; b < blocks; ++b) {
      for (int64_t j = 0; j < size; ++j) total[j] += partial[b * size + j];
    }
  });
  return {rounded(d_x, x), rounded(d_weight, weight)};
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) {
  m.impl("rms_norm", &rms_norm_cpu);
  m.impl("_rms_norm_backward", &rms_norm_backward_cpu);
}

}  // namespace hone::kernels

#endif  // HWY_ONCE
