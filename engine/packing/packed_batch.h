#pragma once

// Flat token streams: what the models read. A padded layout exists nowhere.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

namespace hone::engine {

using TokenIds = std::vector<int32_t>;

/// A text to train on: tokens, and how many of them are prompt (no loss on those).
struct TrainingText {
  TokenIds tokens;
  int64_t prompt_tokens = 0;
};

struct PackedTokens {
  at::Tensor tokens;      // [N] int64
  at::Tensor cu_seqlens;  // [B+1] int64
  std::vector<int64_t> lengths;
};
/// Throws data::InputError for an empty sequence.
PackedTokens pack(const std::vector<std::span<const int32_t>>& sequences,
                  at::Device device = at::kCPU);

/// Next-token batch: every sequence without its last token is input; position i predicts token
/// i + 1. `predict` lists the flat input positions that carry loss, `targets` their next tokens.
struct NextTokenBatch {
  PackedTokens input;
  at::Tensor predict;  // [M] int64 into [N]
  at::Tensor targets;  // [M] int64
};
/// Throws data::InputError for a text of fewer than two tokens.
NextTokenBatch next_token_batch(const std::vector<const TrainingText*>& texts,
                                at::Device device = at::kCPU);

/// Cuts `order` into consecutive batches of at most `max_tokens` (a longer single one stands
/// alone; max_tokens <= 0: one batch).
std::vector<std::vector<int64_t>> fill_batches(const std::vector<int64_t>& order,
                                               const std::vector<int64_t>& lengths,
                                               int64_t max_tokens);

/// Indices of `lengths` in shuffled batches of at most `max_tokens` (a longer single one stands
/// alone); order depends on (seed, epoch) only. Every index appears once.
std::vector<std::vector<int64_t>> token_batches(const std::vector<int64_t>& lengths,
                                                int64_t max_tokens, uint64_t seed, int64_t epoch);

/// Cuts `order` into `parts` consecutive index lists of nearly equal tokens (each within one
/// sequence of the even share). No list is empty: there are fewer lists when there are fewer
/// sequences than parts.
std::vector<std::vector<int64_t>> balanced_parts(const std::vector<int64_t>& order,
                                                 const std::vector<int64_t>& lengths,
                                                 int64_t parts);

}  // namespace hone::engine
