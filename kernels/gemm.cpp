#include "kernels/gemm.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <limits>

// LibTorch's BLAS (column-major Fortran, 32-bit integers) and MKL's bfloat16 product (row-major
// 101, plain 111, transposed 112). Weak: a LibTorch may be built without them.
extern "C" {
void sgemm_(const char*, const char*, const int*, const int*, const int*, const float*,
            const float*, const int*, const float*, const int*, const float*, float*, const int*)
    __attribute__((weak));
void dgemm_(const char*, const char*, const int*, const int*, const int*, const double*,
            const double*, const int*, const double*, const int*, const double*, double*,
            const int*) __attribute__((weak));
void cblas_gemm_bf16bf16f32(int, int, int, int, int, int, float, const uint16_t*, int,
                            const uint16_t*, int, float, float*, int) __attribute__((weak));
}

namespace hone::kernels {
namespace {

template <typename T>
at::Tensor matrix(const T* x, Layout layout, int64_t rows, int64_t columns, int64_t stride) {
  const auto options = at::TensorOptions().dtype(c10::CppTypeToScalarType<T>::value);
  const bool plain = layout == Layout::kPlain;
  return at::from_blob(const_cast<T*>(x), {rows, columns},
                       plain ? at::IntArrayRef{stride, 1} : at::IntArrayRef{1, stride}, options);
}

bool fits_int(int64_t m, int64_t n, int64_t k) {
  return std::max({m, n, k}) <= std::numeric_limits<int>::max();
}

int row_stride(Layout layout, int64_t rows, int64_t columns) {
  return static_cast<int>(layout == Layout::kPlain ? columns : rows);
}

/// Through ATen.
template <typename A, typename T>
void multiply(Layout a_layout, Layout b_layout, int64_t m, int64_t n, int64_t k, const A* a,
              const A* b, bool accumulate, T* c, int64_t a_stride) {
  const auto type = c10::CppTypeToScalarType<T>::value;
  const at::Tensor x = matrix(a, a_layout, m, k, a_stride).to(type);
  const at::Tensor y = matrix(b, b_layout, k, n, row_stride(b_layout, k, n)).to(type);
  at::Tensor out = matrix(c, Layout::kPlain, m, n, n);
  if (accumulate) {
    at::addmm_out(out, out, x, y);
  } else {
    at::mm_out(out, x, y);
  }
}

/// A row-major matrix is the transpose of a column-major one, and (a b)^T = b^T a^T.
template <typename T, typename Blas>
void multiply_with(Blas* blas, Layout a_layout, Layout b_layout, int64_t m, int64_t n, int64_t k,
                   const T* a, const T* b, bool accumulate, T* c) {
  if (!blas || !fits_int(m, n, k) || k == 0) {
    return multiply(a_layout, b_layout, m, n, k, a, b, accumulate, c, row_stride(a_layout, m, k));
  }
  if (m == 0 || n == 0) return;
  const auto code = [](Layout layout) { return layout == Layout::kPlain ? "N" : "T"; };
  const int rows = static_cast<int>(n), columns = static_cast<int>(m), inner = static_cast<int>(k);
  const int a_stride = row_stride(a_layout, m, k), b_stride = row_stride(b_layout, k, n);
  const T one = 1, beta = accumulate ? 1 : 0;
  blas(code(b_layout), code(a_layout), &rows, &columns, &inner, &one, b, &b_stride, a, &a_stride,
       &beta, c, &rows);
}

}  // namespace

void gemm(Layout a_layout, Layout b_layout, int64_t m, int64_t n, int64_t k, const float* a,
          const float* b, bool accumulate, float* c) {
  multiply_with(sgemm_, a_layout, b_layout, m, n, k, a, b, accumulate, c);
}

void gemm(Layout a_layout, Layout b_layout, int64_t m, int64_t n, int64_t k, const double* a,
          const double* b, bool accumulate, double* c) {
  multiply_with(dgemm_, a_layout, b_layout, m, n, k, a, b, accumulate, c);
}

void gemm(Layout a_layout, Layout b_layout, int64_t m, int64_t n, int64_t k, const c10::BFloat16* a,
          const c10::BFloat16* b, bool accumulate, float* c, int64_t a_stride) {
  if (a_stride == 0) a_stride = row_stride(a_layout, m, k);
  if (!cblas_gemm_bf16bf16f32 || !fits_int(m, n, k) || !fits_int(a_stride, 0, 0) || k == 0) {
    return multiply(a_layout, b_layout, m, n, k, a, b, accumulate, c, a_stride);
  }
  if (m == 0 || n == 0) return;
  const auto code = [](Layout layout) { return layout == Layout::kPlain ? 111 : 112; };
  cblas_gemm_bf16bf16f32(101, code(a_layout), code(b_layout), static_cast<int>(m),
                         static_cast<int>(n), static_cast<int>(k), 1.0f,
                         reinterpret_cast<const uint16_t*>(a), static_cast<int>(a_stride),
                         reinterpret_cast<const uint16_t*>(b), row_stride(b_layout, k, n),
                         accumulate ? 1.0f : 0.0f, c, static_cast<int>(n));
}

}  // namespace hone::kernels
