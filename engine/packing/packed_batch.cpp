#include "engine/packing/packed_batch.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <string>

#include "data/error.h"
#include "engine/packing/random_order.h"

namespace hone::engine {
namespace {

at::Tensor empty_ids(int64_t n) { return at::empty({n}, at::TensorOptions().dtype(at::kLong)); }

}  // namespace

PackedTokens pack(const std::vector<std::span<const int32_t>>& sequences, at::Device device) {
  PackedTokens packed;
  packed.lengths.reserve(sequences.size());
  int64_t total = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    if (sequences[i].empty()) {
      throw data::InputError("pack", "sequence " + std::to_string(i), "at least one token", "none");
    }
    packed.lengths.push_back(static_cast<int64_t>(sequences[i].size()));
    total += packed.lengths.back();
  }
  auto tokens = empty_ids(total);
  auto cu_seqlens = empty_ids(static_cast<int64_t>(sequences.size()) + 1);
  auto* token = tokens.mutable_data_ptr<int64_t>();
  auto* bound = cu_seqlens.mutable_data_ptr<int64_t>();
  bound[0] = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    token = std::copy(sequences[i].begin(), sequences[i].end(), token);
    bound[i + 1] = bound[i] + packed.lengths[i];
  }
  packed.tokens = tokens.to(device);
  packed.cu_seqlens = cu_seqlens.to(device);
  return packed;
}

NextTokenBatch next_token_batch(const std::vector<const TrainingText*>& texts, at::Device device) {
  std::vector<std::span<const int32_t>> inputs;
  inputs.reserve(texts.size());
  int64_t predicted = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto size = static_cast<int64_t>(texts[i]->tokens.size());
    if (size < 2) {
      throw data::InputError("next_token_batch", "text " + std::to_string(i), "at least two tokens",
                             std::to_string(size));
    }
    inputs.emplace_back(texts[i]->tokens.data(), texts[i]->tokens.size() - 1);
    predicted += size - std::clamp<int64_t>(texts[i]->prompt_tokens, 1, size);
  }
  NextTokenBatch batch;
  batch.input = pack(inputs, device);
  auto predict = empty_ids(predicted), targets = empty_ids(predicted);
  auto* position = predict.mutable_data_ptr<int64_t>();
  auto* target = targets.mutable_data_ptr<int64_t>();
  int64_t start = 0;
  for (const auto* text : texts) {
    const auto size = static_cast<int64_t>(text->tokens.size());
    for (int64_t next = std::clamp<int64_t>(text->prompt_tokens, 1, size); next < size; ++next) {
      *position++ = start + next - 1;
      *target++ = text->tokens[static_cast<size_t>(next)];
    }
    start += size - 1;
  }
  batch.predict = predict.to(device);
  batch.targets = targets.to(device);
  return batch;
}

std::vector<std::vector<int64_t>> fill_batches(const std::vector<int64_t>& order,
                                               const std::vector<int64_t>& lengths,
                                               int64_t max_tokens) {
  std::vector<std::vector<int64_t>> batches;
  int64_t filled = 0;
  for (const int64_t index : order) {
    const int64_t length = lengths[static_cast<size_t>(index)];
    if (batches.empty() || (max_tokens > 0 && filled + length > max_tokens)) {
      batches.emplace_back();
      filled = 0;
    }
    batches.back().push_back(index);
    filled += length;
  }
  return batches;
}

std::vector<std::vector<int64_t>> token_batches(const std::vector<int64_t>& lengths,
                                                int64_t max_tokens, uint64_t seed, int64_t epoch) {
  return fill_batches(
      random_order(static_cast<int64_t>(lengths.size()), seed, static_cast<uint64_t>(epoch)),
      lengths, max_tokens);
}

std::vector<std::vector<int64_t>> balanced_parts(const std::vector<int64_t>& order,
                                                 const std::vector<int64_t>& lengths,
                                                 int64_t parts) {
  if (parts < 1) {
    throw data::InputError("balanced_parts", "parts", "at least 1", std::to_string(parts));
  }
  const auto n = static_cast<int64_t>(order.size());
  parts = std::min(parts, std::max<int64_t>(n, 1));
  int64_t total = 0;
  for (const int64_t index : order) total += lengths[static_cast<size_t>(index)];
  std::vector<std::vector<int64_t>> result(static_cast<size_t>(parts));
  int64_t part = 0, done = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t length = lengths[static_cast<size_t>(order[static_cast<size_t>(i)])];
    const int64_t parts_after = parts - 1 - part;
    auto* current = &result[static_cast<size_t>(part)];
    // The cut lies on the side of this sequence that is nearer to the even share; every part gets
    // at least one sequence.
    const bool past_share = 2 * done * parts + length * parts > 2 * total * (part + 1);
    if (parts_after > 0 && !current->empty() && (past_share || n - i == parts_after)) {
      current = &result[static_cast<size_t>(++part)];
    }
    current->push_back(order[static_cast<size_t>(i)]);
    done += length;
  }
  return result;
}

}  // namespace hone::engine
