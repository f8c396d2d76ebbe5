#pragma once

// Tokens by id and ids by token, packed: a vocabulary of 150,000 tokens is three allocations.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hone::engine {

class Vocabulary {
 public:
  Vocabulary() = default;
  /// Throws data::InputError naming `where` and the token when an id occurs twice, is negative, or
  /// lies so far above the number of tokens that the file must be wrong.
  Vocabulary(const std::vector<std::pair<std::string_view, int64_t>>& tokens,
             const std::string& where);

  int64_t size() const { return static_cast<int64_t>(spans_.size()); }  // largest id + 1
  int64_t count() const { return count_; }                              // tokens
  int32_t id_of(std::string_view token) const;                          // -1 when unknown
  bool has(int64_t id) const { return id >= 0 && id < size() && spans_[id].begin != kNone; }
  /// Empty for an id without a token.
  std::string_view token_of(int64_t id) const {
    return has(id) ? std::string_view(text_).substr(spans_[id].begin, spans_[id].size)
                   : std::string_view();
  }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Span {
    uint32_t begin = kNone, size = 0;
  };
  size_t slot_of(std::string_view token) const;

  std::string text_;
  std::vector<Span> spans_;     // by id
  std::vector<int32_t> slots_;  // open addressing; -1 = free
  int64_t count_ = 0;
};

}  // namespace hone::engine
