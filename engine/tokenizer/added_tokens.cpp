#include "engine/tokenizer/added_tokens.h"

#include <algorithm>

#include "engine/tokenizer/utf8.h"

namespace hone::engine {
namespace {

bool ends_in_word(std::string_view text) {
  if (text.empty()) return false;
  size_t at = text.size() - 1;
  while ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return is_word_character(utf8_next(text, at));
}

bool begins_with_word(std::string_view text) {
  size_t at = 0;
  return !text.empty() && is_word_character(utf8_next(text, at));
}

size_t leading_space(std::string_view text) {
  size_t at = 0, end = 0;
  while (at < text.size() && is_white_space(utf8_next(text, at))) end = at;
  return end;
}

// Where the white space at the end of text[low, high) begins.
size_t trailing_space(std::string_view text, size_t low, size_t high) {
  while (high > low) {
    size_t at = high - 1;
    while (at > low && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
    const size_t begin = at;
    if (!is_white_space(utf8_next(text, at))) break;
    high = begin;
  }
  return high;
}

}  // namespace

std::vector<AddedToken> parse_added_tokens(const JsonField& field) {
  std::vector<AddedToken> tokens;
  const size_t count = field.value().is_null() ? 0 : field.list_size();
  for (size_t i = 0; i < count; ++i) {
    const JsonField token = field.at(i);
    AddedToken added;
    added.content = token.at("content").text();
    added.decoded = added.content;
    added.id = static_cast<int32_t>(token.at("id").integer(0, INT32_MAX));
    added.special = token.boolean_or("special", false);
    added.single_word = token.boolean_or("single_word", false);
    added.lstrip = token.boolean_or("lstrip", false);
    added.rstrip = token.boolean_or("rstrip", false);
    added.normalized = token.boolean_or("normalized", !added.special);
    tokens.push_back(std::move(added));
  }
  return tokens;
}

AddedTokenFinder::AddedTokenFinder(const std::vector<AddedToken>& tokens, bool normalized,
                                   const Normalizer& normalizer)
    : ends_(1, -1) {
  for (const AddedToken& token : tokens) {
    if (token.normalized != normalized) continue;
    const std::string pattern = normalized ? normalizer.apply(token.content) : token.content;
    if (pattern.empty()) continue;
    insert(pattern, static_cast<uint32_t>(rules_.size()));
    rules_.push_back(token);
  }
}

void AddedTokenFinder::insert(std::string_view pattern, uint32_t rule) {
  begins_[static_cast<unsigned char>(pattern.front())] = true;
  uint32_t node = kRoot;
  for (const char c : pattern) {
    const uint64_t edge = uint64_t{node} << 8 | static_cast<unsigned char>(c);
    const auto [child, added] = children_.try_emplace(edge, static_cast<uint32_t>(ends_.size()));
    if (added) ends_.push_back(-1);
    node = child->second;
  }
  if (ends_[node] < 0) ends_[node] = rule;
}

size_t AddedTokenFinder::match(std::string_view text, size_t at, uint32_t* rule) const {
  size_t length = 0;
  uint32_t node = kRoot;
  for (size_t i = at; i < text.size(); ++i) {
    const auto child = children_.find(uint64_t{node} << 8 | static_cast<unsigned char>(text[i]));
    if (child == children_.end()) break;
    node = child->second;
    if (ends_[node] < 0) continue;
    length = i + 1 - at;
    *rule = static_cast<uint32_t>(ends_[node]);
  }
  return length;
}

void AddedTokenFinder::split(std::string_view text, std::vector<Part>& parts) const {
  parts.clear();
  size_t done = 0;
  if (!rules_.empty()) {
    for (size_t at = 0; at < text.size();) {
      uint32_t rule = 0;
      const bool candidate = begins_[static_cast<unsigned char>(text[at])];
      const size_t length = candidate ? match(text, at, &rule) : 0;
      if (length == 0) {
        ++at;
        continue;
      }
      const AddedToken& token = rules_[rule];
      // The white space that a token takes may have been the beginning of this match.
      size_t begin = std::max(at, done), end = at + length;
      at = end;
      if (token.single_word &&
          (ends_in_word(text.substr(0, begin)) || begins_with_word(text.substr(end)))) {
        continue;
      }
      if (end <= done) continue;
      if (token.lstrip) begin = trailing_space(text, done, begin);
      if (token.rstrip) end += leading_space(text.substr(end));
      if (done < begin) parts.push_back({text.substr(done, begin - done), -1});
      parts.push_back({text.substr(begin, end - begin), token.id});
      done = end;
    }
  }
  if (done < text.size()) parts.push_back({text.substr(done), -1});
}

}  // namespace hone::engine
