#pragma once

// Row passes that ops share, single-threaded; callers split rows over threads. T is what is
// computed in; G is what the next matrix product reads: T, or c10::BFloat16 with T = float.

#include <cstdint>

namespace hone::kernels {

/// y = x / rms(x) * weight, [rows, size].
template <typename T, typename G>
void rms_norm_rows(const T* x, const T* weight, G* y, int64_t rows, int64_t size, T eps);

/// d_x = residual (if not null) + gradient through the norm; d_weight [size] is added to. `y`, if
/// not null, receives what rms_norm_rows gave.
template <typename T, typename G>
void rms_norm_backward_rows(const T* grad, const T* x, const T* weight, const T* residual, T* d_x,
                            T* d_weight, G* y, int64_t rows, int64_t size, T eps);

/// y [rows, size] = silu(x[:, :size]) * x[:, size:].
template <typename T, typename G>
void swiglu_rows(const T* x, G* y, int64_t rows, int64_t size);
/// `y`, if not null, receives what swiglu_rows gave.
template <typename T, typename G>
void swiglu_backward_rows(const T* grad, const T* x, G* d_x, G* y, int64_t rows, int64_t size);

}  // namespace hone::kernels
