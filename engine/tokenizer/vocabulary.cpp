#include "engine/tokenizer/vocabulary.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "data/error.h"
#include "engine/io/json.h"

namespace hone::engine {

using data::InputError;

Vocabulary::Vocabulary(const std::vector<std::pair<std::string_view, int64_t>>& tokens,
                       const std::string& where) {
  // Padded and pruned vocabularies have holes; a million ids of slack is more than any has and
  // costs 8 MB.
  const int64_t limit = static_cast<int64_t>(tokens.size()) * 4 + (1 << 20);
  size_t bytes = 0;
  int64_t largest = -1;
  for (const auto& [token, id] : tokens) {
    if (id < 0 || id >= limit) {
      throw InputError(where, "id of token " + shown_json(std::string(token)),
                       "0 to " + std::to_string(limit - 1), std::to_string(id));
    }
    largest = std::max(largest, id);
    bytes += token.size();
  }
  if (bytes >= kNone) throw InputError(where, "tokens", "less than 4 GiB", std::to_string(bytes));
  text_.reserve(bytes);
  spans_.resize(static_cast<size_t>(largest + 1));
  slots_.assign(std::bit_ceil(2 * tokens.size() + 1), -1);
  for (const auto& [token, id] : tokens) {
    Span& span = spans_[static_cast<size_t>(id)];
    int32_t& slot = slots_[slot_of(token)];
    if (span.begin != kNone || slot >= 0) {
      const std::string other(span.begin != kNone ? token_of(id) : token);
      throw InputError(where, "id of token " + shown_json(std::string(token)),
                       "tokens and ids to be unique",
                       std::to_string(id) + ", taken by " + shown_json(other));
    }
    span = {static_cast<uint32_t>(text_.size()), static_cast<uint32_t>(token.size())};
    slot = static_cast<int32_t>(id);
    text_ += token;
  }
  count_ = static_cast<int64_t>(tokens.size());
}

size_t Vocabulary::slot_of(std::string_view token) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = std::hash<std::string_view>()(token) & mask;
  while (slots_[slot] >= 0 && token_of(slots_[slot]) != token) slot = (slot + 1) & mask;
  return slot;
}

int32_t Vocabulary::id_of(std::string_view token) const {
  return slots_.empty() ? -1 : slots_[slot_of(token)];
}

}  // namespace hone::engine
