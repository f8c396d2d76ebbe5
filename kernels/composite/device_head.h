#pragma once

// The chunk loop of the head on a device other than the CPU: few and large GEMMs, queued one after
// another. Only what a chunk needs exists at a time:
//
//   logits       [chunk,V] float32, at most 1.1 GB. Where d weight has room for them, which nobody
//                needs before the last chunk's logits are gone, they live there
//   d logits     [group,V] bfloat16: all rows, so that d weight, gigabytes at a large vocabulary,
//                is written once and not added to, unless whole chunks of 1.1 GB and a float32 sum
//                of d weight are less; in float32 and float64 they take the logits' place, chunk
//                by chunk
//
// Rows are padded to 16 bytes: a vocabulary of 50257 would make every GEMM that reads them slow.

#include <ATen/core/Tensor.h>
#include <c10/util/FunctionRef.h>

#include <cstdint>

#include "kernels/composite/chunked_head.h"

namespace hone::kernels {

/// Rows of logits that exist at a time. Depends on the sizes alone, so that every op that sees the
/// same hidden states runs the same GEMMs and gets the same bits.
int64_t device_head_chunk_rows(int64_t tokens, int64_t vocabulary, int64_t width);

/// `rows(logits, begin, d_logits)`: raw logits [n,V] (bias added, no temperature) of tokens begin
/// .. begin+n-1, in the type that ops on `in` compute in; d_logits [n,V] in the type of `in` wants
/// d loss / d logits; without gradients it is undefined, and it may be the logits' own memory. Both
/// with rows at some stride. Gradients come in the type of `in` or, where they are sums over
/// groups, in the type that is computed in.
HeadGradients for_each_device_head_chunk(
    const HeadInputs& in, const HeadNeeds& needs,
    c10::function_ref<void(const at::Tensor& logits, int64_t begin, const at::Tensor& d_logits)>
        rows);

}  // namespace hone::kernels
