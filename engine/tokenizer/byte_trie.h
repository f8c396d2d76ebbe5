#pragma once

// Strings by their bytes, for all the known strings that begin at a place of a text.

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace hone::engine {

class ByteTrie {
 public:
  ByteTrie() = default;
  /// Of different strings, none empty, with their values (not negative).
  explicit ByteTrie(std::vector<std::pair<std::string_view, int32_t>> strings) {
    std::sort(strings.begin(), strings.end());
    nodes_.push_back({});
    // Breadth first, so that the children of a node lie side by side, by label. `spans`: the
    // strings below each node, which share their first `depth` bytes.
    struct Span {
      size_t begin, end, depth;
    };
    std::vector<Span> spans = {{0, strings.size(), 0}};
    for (size_t node = 0; node < spans.size(); ++node) {
      auto [begin, end, depth] = spans[node];
      if (begin < end && strings[begin].first.size() == depth) {
        nodes_[node].value = strings[begin++].second;
      }
      nodes_[node].first_child = static_cast<uint32_t>(nodes_.size());
      while (begin < end) {
        const char label = strings[begin].first[depth];
        size_t next = begin;
        while (next < end && strings[next].first[depth] == label) ++next;
        nodes_.push_back({});
        nodes_.back().label = static_cast<unsigned char>(label);
        ++nodes_[node].children;
        spans.push_back({begin, next, depth + 1});
        begin = next;
      }
    }
    if (nodes_.empty()) return;
    for (uint32_t i = 0; i < nodes_[0].children; ++i) {
      roots_[nodes_[nodes_[0].first_child + i].label] = nodes_[0].first_child + i;
    }
  }

  /// Calls visit(length, value) for every string that begins at `at`, shorter ones first.
  template <class Visit>
  void for_each_at(std::string_view text, size_t at, Visit&& visit) const {
    if (at >= text.size()) return;
    uint32_t node = roots_[static_cast<unsigned char>(text[at])];
    for (size_t length = 1; node != 0; ++length) {
      if (nodes_[node].value >= 0) visit(length, nodes_[node].value);
      if (at + length >= text.size()) return;
      node = child(nodes_[node], static_cast<unsigned char>(text[at + length]));
    }
  }

 private:
  struct Node {
    uint32_t first_child = 0;
    int32_t value = -1;
    uint16_t children = 0;
    unsigned char label = 0;
  };
  // 0, which is the root, for none.
  uint32_t child(const Node& node, unsigned char label) const {
    const auto first = nodes_.begin() + node.first_child, last = first + node.children;
    const auto found = std::lower_bound(
        first, last, label, [](const Node& a, unsigned char wanted) { return a.label < wanted; });
    return found != last && found->label == label ? static_cast<uint32_t>(found - nodes_.begin())
                                                  : 0;
  }

  std::vector<Node> nodes_;
  std::array<uint32_t, 256> roots_{};  // child of the root by label
};

}  // namespace hone::engine
