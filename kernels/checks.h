#pragma once

// Argument checks of the ops. Every message has one form:
//   "<op>: <argument>: expected <expected>, got <got>"
// so that a caller in Python or C++ can tell what to change without reading the source.

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <string>

/// `got` may be several comma-separated pieces, which are printed one after the other.
#define HONE_CHECK(condition, op, argument, expected, ...) \
  TORCH_CHECK(condition, op, ": ", argument, ": expected ", expected, ", got ", __VA_ARGS__)

namespace hone::kernels::check {

/// "Float [3, 4] on cpu", or "an undefined tensor".
std::string describe(const at::Tensor& x);

/// float32 or float64.
void floating(const char* op, const char* argument, const at::Tensor& x);

/// float32, float64 or bfloat16: what the model ops take.
void model_floating(const char* op, const char* argument, const at::Tensor& x);

/// Exactly `dim` dimensions.
void rank(const char* op, const char* argument, const at::Tensor& x, int64_t dim);

/// Sizes equal to `sizes`; `meaning` is printed with them, e.g. "[N,H]".
void sizes(const char* op, const char* argument, const at::Tensor& x, at::IntArrayRef sizes,
           const char* meaning);

void dtype(const char* op, const char* argument, const at::Tensor& x, at::ScalarType type);

void same_device(const char* op, const char* argument, const at::Tensor& x, const char* like_name,
                 const at::Tensor& like);

/// Same sizes, dtype and device as another argument.
void same_as(const char* op, const char* argument, const at::Tensor& x, const char* like_name,
             const at::Tensor& like);

/// [B+1] int64, B >= 0. For a CPU tensor also the contents: starts at 0, never falls, ends at
/// `tokens`. On CUDA the contents are not read (that would stop the stream).
void cu_seqlens(const char* op, const at::Tensor& x, int64_t tokens);

/// The same of any offsets; `shape` is their name for [B+1], `ends_at` what they end at.
void offsets(const char* op, const char* argument, const char* shape, const at::Tensor& x,
             int64_t end, const char* ends_at);

/// [tokens] uint8 or bool.
void mask(const char* op, const at::Tensor& x, int64_t tokens);

}  // namespace hone::kernels::check
