#pragma once

// The chunk loop of every op that ends in the language-model head. The [N,V] logits never exist
// whole: rows of logits are computed into one reused workspace, a callback turns them into whatever
// the op wants (and, when gradients are needed, into d loss / d logits in place), and the gradient
// GEMMs follow while they are in cache. A large vocabulary goes in tiles instead
// (cpu/head_tiles.h), other devices in chunks of their own (device_head.h).

#include <ATen/core/Tensor.h>
#include <c10/util/FunctionRef.h>

#include <array>
#include <cstdint>
#include <optional>

namespace hone::kernels {

/// d hidden, d weight, d bias: which of them a call wants.
using HeadNeeds = std::array<bool, 3>;
constexpr HeadNeeds kForwardOnly{false, false, false};
inline bool any(const HeadNeeds& needs) { return needs[0] || needs[1] || needs[2]; }

struct HeadGradients {
  at::Tensor hidden;  // [N,H], or [0] when not asked for
  at::Tensor weight;  // [V,H], or [0]
  at::Tensor bias;    // [V], or [0]
};

/// Contiguous, of one dtype; `bias` may be undefined.
struct HeadInputs {
  at::Tensor hidden;   // [N,H]
  at::Tensor weight;   // [V,H]
  at::Tensor bias;     // [V]
  at::Tensor targets;  // [N] int64
};

/// Rows of logits that exist at a time. Depends on the two sizes alone (never on threads), so that
/// every op that sees the same hidden states runs the same GEMMs and gets the same bits.
int64_t head_chunk_rows(int64_t tokens, int64_t vocabulary);

/// bfloat16 hidden states and weight: logits, sums and gradients are float32.
/// `rows(logits, begin)`: raw logits [n,V] (bias added, no temperature) of tokens begin ..
/// begin+n-1. On the CPU it is called from several threads at once, for different tokens.
HeadGradients for_each_head_chunk(
    const HeadInputs& in, const HeadNeeds& needs,
    c10::function_ref<void(const at::Tensor& logits, int64_t begin)> rows);

/// Room for the gradients that a call wants, in the type that ops on `in` compute in. Without
/// tokens nothing will be written, so it is zero then.
HeadGradients empty_head_gradients(const HeadInputs& in, const HeadNeeds& needs);

/// Shapes, dtypes and (on CPU) the range of the targets; messages start with `op`.
HeadInputs check_head(const char* op, const at::Tensor& hidden, const at::Tensor& weight,
                      const at::Tensor& targets, const std::optional<at::Tensor>& bias,
                      double temperature);

/// [N], converted to the type that ops on `hidden` compute in, contiguous.
at::Tensor head_token_values(const char* op, const char* argument, const at::Tensor& x,
                             const at::Tensor& hidden);

}  // namespace hone::kernels
