#pragma once

// What the reward room needs of a network: tokens in, hidden states out, and one scalar head.
// engine::CausalLM implements it; tests use a toy.

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace hone::reward {

class Backbone {
 public:
  virtual ~Backbone() = default;
  /// Hidden states [N, H] after the final norm of packed tokens [N] int64 with cu_seqlens [B+1]
  /// int64, or [M, H] of `rows` [M] int64 into them, strictly ascending: asking for the few that
  /// are read spares the last block the others. Records a graph when gradients are enabled.
  virtual at::Tensor hidden(const at::Tensor& tokens, const at::Tensor& cu_seqlens,
                            const at::Tensor& rows) = 0;
  at::Tensor hidden(const at::Tensor& tokens, const at::Tensor& cu_seqlens) {
    return hidden(tokens, cu_seqlens, {});
  }
  /// Weight [1, H] of the scalar head (no bias: it cancels in comparisons, and Hugging Face's
  /// sequence classifiers have none).
  virtual at::Tensor scalar_head() const = 0;
  virtual int64_t hidden_size() const = 0;
};

/// Scores [B] at the last token of each sequence (ALGORITHMS 13).
at::Tensor sequence_scores(Backbone& backbone, const at::Tensor& tokens,
                           const at::Tensor& cu_seqlens);

/// Values [N] at every token.
at::Tensor token_values(Backbone& backbone, const at::Tensor& tokens, const at::Tensor& cu_seqlens);

}  // namespace hone::reward
