#pragma once

// Row-major matrix products on the CPU without the dispatcher around them: LibTorch's BLAS, called
// with pointers. bfloat16 operands give float32 sums (AMX or AVX-512 BF16 where the machine has
// them). Threads: as many as the calling thread's products through ATen would use.

#include <c10/util/BFloat16.h>

#include <cstdint>

namespace hone::kernels {

enum class Layout { kPlain, kTransposed };

/// c [m,n] = op(a) [m,k] op(b) [k,n] + (accumulate ? c : 0); op(x) = x or x^T, all contiguous but
/// for the bfloat16 a, whose rows in memory may lie `a_stride` elements apart (0 = contiguous).
void gemm(Layout a_layout, Layout b_layout, int64_t m, int64_t n, int64_t k, const float* a,
          const float* b, bool accumulate, float* c);
void gemm(Layout a_layout, Layout b_layout, int64_t m, int64_t n, int64_t k, const double* a,
          const double* b, bool accumulate, double* c);
void gemm(Layout a_layout, Layout b_layout, int64_t m, int64_t n, int64_t k, const c10::BFloat16* a,
          const c10::BFloat16* b, bool accumulate, float* c, int64_t a_stride = 0);

}  // namespace hone::kernels
