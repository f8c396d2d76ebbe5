#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/swiglu.cpp"
#include "kernels/cpu/highway_targets.h"
// After the targets.
#include "hwy/foreach_target.h"
// After foreach_target.
#include "hwy/highway.h"
#include "kernels/cpu/bfloat16-inl.h"
#include "kernels/cpu/swiglu-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {
namespace {

/// for_lanes where an element may be visited twice: the rest of a row is one more whole vector,
/// over elements already done, instead of single ones.
template <typename T, typename Visit>
HWY_INLINE void for_lanes_again(int64_t size, const Visit& visit) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  if (size < lanes) return for_lanes<T>(size, visit);
  int64_t j = 0;
  for (; j + lanes <= size; j += lanes) visit(d, j);
  if (j < size) visit(d, size - lanes);
}

template <typename T, typename G>
void forward(const T* x, G* y, int64_t rows, int64_t size) {
  for (int64_t i = 0; i < rows; ++i, x += 2 * size, y += size) {
    for_lanes_again<T>(size, [&](auto d, int64_t j) {
      store(swiglu(d, hn::LoadU(d, x + j), hn::LoadU(d, x + size + j)), d, y + j);
    });
  }
}

/// y, if not null, is the forward result once more.
template <typename T, typename G>
void backward(const T* dy, const T* x, G* dx, G* y, int64_t rows, int64_t size) {
  for (int64_t i = 0; i < rows; ++i, x += 2 * size, dx += 2 * size, dy += size) {
    for_lanes_again<T>(size, [&](auto d, int64_t j) {
      const auto out =
          swiglu_gradient(d, hn::LoadU(d, dy + j), hn::LoadU(d, x + j), hn::LoadU(d, x + size + j));
      store(out.d_gate, d, dx + j);
      store(out.d_up, d, dx + size + j);
      if (y) store(out.value, d, y + j);
    });
    if (y) y += size;
  }
}

void forward_f32(const float* x, float* y, int64_t n, int64_t f) { forward(x, y, n, f); }
void forward_f64(const double* x, double* y, int64_t n, int64_t f) { forward(x, y, n, f); }
void backward_f32(const float* dy, const float* x, float* dx, float* y, int64_t n, int64_t f) {
  backward(dy, x, dx, y, n, f);
}
void backward_f64(const double* dy, const double* x, double* dx, double* y, int64_t n, int64_t f) {
  backward(dy, x, dx, y, n, f);
}
void forward_bf16(const float* x, c10::BFloat16* y, int64_t n, int64_t f) { forward(x, y, n, f); }
void backward_bf16(const float* dy, const float* x, c10::BFloat16* dx, c10::BFloat16* y, int64_t n,
                   int64_t f) {
  backward(dy, x, dx, y, n, f);
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
void swiglu_rows(const T* x, G* y, int64_t rows, int64_t size) {
  if constexpr (std::is_same_v<T, G>) {
    HONE_DISPATCH(T, forward)(x, y, rows, size);
  } else {
    HWY_DYNAMIC_DISPATCH(forward_bf16)(x, y, rows, size);
  }
}

template <typename T, typename G>
void swiglu_backward_rows(const T* grad, const T* x, G* d_x, G* y, int64_t rows, int64_t size) {
  if constexpr (std::is_same_v<T, G>) {
    HONE_DISPATCH(T, backward)(grad, x, d_x, y, rows, size);
  } else {
    HWY_DYNAMIC_DISPATCH(backward_bf16)(grad, x, d_x, y, rows, size);
  }
}

template void swiglu_rows(const float*, float*, int64_t, int64_t);
template void swiglu_rows(const double*, double*, int64_t, int64_t);
template void swiglu_rows(const float*, c10::BFloat16*, int64_t, int64_t);
template void swiglu_backward_rows(const float*, const float*, float*, float*, int64_t, int64_t);
template void swiglu_backward_rows(const double*, const double*, double*, double*, int64_t,
                                   int64_t);
template void swiglu_backward_rows(const float*, const float*, c10::BFloat16*, c10::BFloat16*,
                                   int64_t, int64_t);

namespace {

using at::Tensor;

int64_t rows_per_task(int64_t width) {
  return std::max<int64_t>(1, 16384 / std::max<int64_t>(width, 1));
}

Tensor swiglu_cpu(const Tensor& x) {
  check_swiglu(x);
  const Tensor in = computed(x);
  const int64_t size = x.size(1) / 2;
  Tensor out = at::empty({x.size(0), size}, in.options());
  AT_DISPATCH_FLOATING_TYPES(in.scalar_type(), "swiglu", [&] {
    at::parallel_for(0, x.size(0), rows_per_task(size), [&](int64_t begin, int64_t end) {
      swiglu_rows<scalar_t, scalar_t>(in.const_data_ptr<scalar_t>() + begin * 2 * size,
                                      out.data_ptr<scalar_t>() + begin * size, end - begin, size);
    });
  });
  return rounded(out, x);
}

Tensor swiglu_backward_cpu(const Tensor& grad, const Tensor& x) {
  const Tensor g = computed(grad), in = computed(x);
  const int64_t size = x.size(1) / 2;
  Tensor d_x = at::empty(x.sizes(), in.options());
  AT_DISPATCH_FLOATING_TYPES(in.scalar_type(), "swiglu", [&] {
    at::parallel_for(0, x.size(0), rows_per_task(size), [&](int64_t begin, int64_t end) {
      swiglu_backward_rows<scalar_t, scalar_t>(g.const_data_ptr<scalar_t>() + begin * size,
                                               in.const_data_ptr<scalar_t>() + begin * 2 * size,
                                               d_x.data_ptr<scalar_t>() + begin * 2 * size, nullptr,
                                               end - begin, size);
    });
  });
  return rounded(d_x, x);
}

}  // namespace

TORCH_LIBRARY_IMPL(hone, CPU, m) {
  m.impl("swiglu", &swiglu_cpu);
  m.impl("_swiglu_backward", &swiglu_backward_cpu);
}

}  // namespace hone::kernels

#endif  // HWY_ONCE
