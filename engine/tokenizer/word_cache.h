#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hone::engine {

/// Ids of words seen before. Bounded: a word displaces the one in its slot, and everything is
/// forgotten when the texts outgrow their space.
class WordCache {
 public:
  static constexpr size_t kLongestWord = 64;  // bytes

  /// The ids of `word`; false when it is not there.
  bool find(std::string_view word, std::vector<int32_t>& ids) const {
    if (slots_.empty()) return false;
    const Slot& slot = slots_[index(word)];
    if (std::string_view(text_.data() + slot.text, slot.text_size) != word) return false;
    ids.insert(ids.end(), ids_.begin() + slot.ids, ids_.begin() + slot.ids + slot.ids_size);
    return true;
  }

  /// `word` is not empty and at most kLongestWord bytes long, so it has few ids.
  void insert(std::string_view word, std::span<const int32_t> ids) {
    if (slots_.empty() || text_.size() + word.size() > kTextBytes) {
      slots_.assign(kSlots, {});
      text_.clear();
      ids_.clear();
    }
    slots_[index(word)] = {static_cast<uint32_t>(text_.size()), static_cast<uint32_t>(ids_.size()),
                           static_cast<uint16_t>(word.size()), static_cast<uint16_t>(ids.size())};
    text_ += word;
    ids_.insert(ids_.end(), ids.begin(), ids.end());
  }

 private:
  static constexpr size_t kSlots = 1 << 15, kTextBytes = 1 << 20;
  struct Slot {
    uint32_t text = 0, ids = 0;
    uint16_t text_size = 0, ids_size = 0;  // text_size 0 = free
  };
  static size_t index(std::string_view word) {
    return std::hash<std::string_view>()(word) & (kSlots - 1);
  }

  std::vector<Slot> slots_;
  std::string text_;
  std::vector<int32_t> ids_;
};

}  // namespace hone::engine
