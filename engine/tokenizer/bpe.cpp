#include "engine/tokenizer/bpe.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "data/error.h"
#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/utf8.h"

namespace hone::engine {

using data::InputError;

bool Bpe::append_bytes_of(std::string_view character, std::vector<int32_t>& symbols) const {
  const auto id = [this](char c) { return byte_fallback_[static_cast<unsigned char>(c)]; };
  const bool known =
      std::all_of(character.begin(), character.end(), [&](char c) { return id(c) >= 0; });
  if (known) {
    for (const char c : character) symbols.push_back(id(c));
  }
  return known;
}

void Bpe::append_symbols(std::string_view text, std::vector<int32_t>& symbols) const {
  // An unknown character waits, so that the next one can fuse with it. Characters that fall back
  // to bytes overtake it: so it is in `tokenizers`, and the models were trained with that.
  bool waiting = false;
  const auto unknown_id = [this] {
    const int32_t id = vocabulary_.id_of(unknown_token_);
    if (id < 0) {
      throw InputError(where_, "unk_token", "a token of the vocabulary",
                       shown_json(unknown_token_));
    }
    return id;
  };
  const bool decorated = !continuing_prefix_.empty() || !word_suffix_.empty();
  std::string decorated_character;
  for (size_t at = 0; at < text.size();) {
    std::string_view character = text.substr(at, utf8_size(text[at]));
    const bool is_first = at == 0;
    at += character.size();
    if (decorated) {
      decorated_character = is_first ? "" : continuing_prefix_;
      decorated_character += character;
      if (at == text.size()) decorated_character += word_suffix_;
      character = decorated_character;
    }
    if (const int32_t id = vocabulary_.id_of(character); id >= 0) {
      if (std::exchange(waiting, false)) symbols.push_back(unknown_id());
      symbols.push_back(id);
    } else if (!(has_byte_fallback_ && append_bytes_of(character, symbols)) &&
               !unknown_token_.empty()) {
      if (waiting && !fuse_unknown_) symbols.push_back(unknown_id());
      waiting = true;
    }
  }
  if (waiting) symbols.push_back(unknown_id());
}

// For words of usual length, where scanning all pairs beats any queue.
void Bpe::merge_short(BpeScratch& scratch) const {
  std::vector<int32_t>& ids = scratch.ids;
  std::vector<uint32_t>& ranks = scratch.ranks;  // of the pair (i, i + 1)
  ranks.resize(ids.size() - 1);
  for (size_t i = 0; i + 1 < ids.size(); ++i) ranks[i] = merges_.rank(ids[i], ids[i + 1]);
  while (!ranks.empty()) {
    const auto best = std::min_element(ranks.begin(), ranks.end());
    if (*best == MergeTable::kNone) return;
    const size_t i = static_cast<size_t>(best - ranks.begin());
    ids[i] = merges_.result(*best);
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    ranks.erase(best);
    if (i > 0) ranks[i - 1] = merges_.rank(ids[i - 1], ids[i]);
    if (i < ranks.size()) ranks[i] = merges_.rank(ids[i], ids[i + 1]);
  }
}

// A linked list of symbols and a queue of (rank, position): n log n for any length.
void Bpe::merge_long(BpeScratch& scratch) const {
  std::vector<int32_t>&ids = scratch.ids, &previous = scratch.previous, &next = scratch.next;
  std::vector<uint32_t>& ranks = scratch.ranks;
  std::vector<uint64_t>& heap = scratch.heap;
  const int32_t count = static_cast<int32_t>(ids.size());
  previous.resize(ids.size());
  next.resize(ids.size());
  ranks.assign(ids.size(), MergeTable::kNone);
  heap.clear();
  const auto entry = [&](int32_t i) { return uint64_t{ranks[i]} << 32 | static_cast<uint32_t>(i); };
  for (int32_t i = 0; i < count; ++i) {
    previous[i] = i - 1;
    next[i] = i + 1;
    if (i + 1 == count) break;
    ranks[i] = merges_.rank(ids[i], ids[i + 1]);
    if (ranks[i] != MergeTable::kNone) heap.push_back(entry(i));
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto update = [&](int32_t i) {
    ranks[i] = next[i] < count ? merges_.rank(ids[i], ids[next[i]]) : MergeTable::kNone;
    if (ranks[i] == MergeTable::kNone) return;
    heap.push_back(entry(i));
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const uint64_t top = heap.back();
    heap.pop_back();
    const int32_t i = static_cast<int32_t>(top & UINT32_MAX);
    if (ranks[i] != top >> 32) continue;  // the pair has changed since
    const int32_t gone = next[i];
    ids[i] = merges_.result(ranks[i]);
    ids[gone] = -1;
    ranks[gone] = MergeTable::kNone;
    next[i] = next[gone];
    if (next[i] < count) previous[next[i]] = i;
    update(i);
    if (previous[i] >= 0) update(previous[i]);
  }
  std::erase(ids, -1);
}

void Bpe::encode_unseen(std::string_view word, bool bytes, BpeScratch& scratch,
                        std::vector<int32_t>& ids) const {
  constexpr size_t kShortWord = 48;  // symbols; measured: the queue wins from about 60
  const bool direct =
      bytes && has_all_byte_characters_ && continuing_prefix_.empty() && word_suffix_.empty();
  if (bytes && (!direct || ignore_merges_)) {
    scratch.text.clear();
    append_byte_level(scratch.text, word);
  }
  const std::string_view text = bytes ? std::string_view(scratch.text) : word;
  if (ignore_merges_) {
    if (const int32_t id = vocabulary_.id_of(text); id >= 0) return ids.push_back(id);
  }
  scratch.ids.clear();
  if (direct) {
    for (const char c : word) {
      scratch.ids.push_back(byte_character_[static_cast<unsigned char>(c)]);
    }
  } else {
    append_symbols(text, scratch.ids);
  }
  if (scratch.ids.size() > kShortWord) {
    merge_long(scratch);
  } else if (scratch.ids.size() > 1) {
    merge_short(scratch);
  }
  ids.insert(ids.end(), scratch.ids.begin(), scratch.ids.end());
}

void Bpe::encode(std::string_view word, bool bytes, BpeScratch& scratch,
                 std::vector<int32_t>& ids) const {
  if (word.size() > INT32_MAX / 4) {
    throw InputError(where_, "text", "words below 512 MiB", std::to_string(word.size()));
  }
  const bool cacheable = word.size() <= WordCache::kLongestWord;
  if (cacheable && scratch.cache.find(word, ids)) return;
  const size_t before = ids.size();
  encode_unseen(word, bytes, scratch, ids);
  if (cacheable) scratch.cache.insert(word, std::span(ids).subspan(before));
}

}  // namespace hone::engine
