// Byte-pair encoding learned from word counts (Sennrich et al. 2016), step for step as the trainer
// of the `tokenizers` package takes them, so that both give the same file.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "data/error.h"
#include "engine/io/json.h"
#include "engine/tokenizer/byte_level.h"
#include "engine/tokenizer/pretokenizer.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/tokenizer/trained_bpe.h"
#include "engine/tokenizer/utf8.h"

namespace hone::engine {
namespace {

using data::InputError;
using PairKey = uint64_t;  // left id in the high half: keys compare as pairs do

PairKey key_of(int32_t left, int32_t right) {
  return PairKey{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

struct TransparentHash : std::hash<std::string_view> {
  using is_transparent = void;
};
using WordCounts = std::unordered_map<std::string, int64_t, TransparentHash, std::equal_to<>>;

WordCounts count_words(const std::vector<std::string>& texts, bool add_prefix_space) {
  const nlohmann::json description = byte_level_description(add_prefix_space);
  const PreTokenizer pre_tokenizer =
      PreTokenizer::parse(JsonField(description, "train_byte_level_bpe", "pre_tokenizer"));
  WordCounts counts;
  std::vector<Piece> pieces;
  for (const std::string& original : texts) {
    std::string text = utf8_repaired(original);
    pre_tokenizer.split(text, /*first=*/true, pieces);
    for (const Piece& piece : pieces) {
      const auto word = std::string_view(text).substr(piece.begin, piece.end - piece.begin);
      const auto found = counts.find(word);
      if (found != counts.end()) {
        ++found->second;
      } else {
        counts.emplace(word, 1);
      }
    }
  }
  return counts;
}

class BpeTrainer {
 public:
  explicit BpeTrainer(const BpeTrainerOptions& options) : options_(options) {
    for (const std::string& token : options.special_tokens) id_of_new(token);
    std::vector<std::pair<char32_t, int>> alphabet;
    for (int byte = 0; byte < 256; ++byte) {
      alphabet.emplace_back(byte_level_character(static_cast<unsigned char>(byte)), byte);
    }
    std::sort(alphabet.begin(), alphabet.end());
    for (const auto& [character, byte] : alphabet) {
      std::string text;
      utf8_append(text, character);
      byte_ids_[byte] = id_of_new(text);
    }
  }

  TrainedBpe train(const WordCounts& counts) {
    add_words(counts);
    while (static_cast<int64_t>(tokens_.size()) < options_.vocab_size && !queue_.empty()) {
      std::pop_heap(queue_.begin(), queue_.end());
      Candidate& top = queue_.back();
      const int64_t count = pair_counts_[top.pair];
      if (top.count != count) {  // it has changed since the candidate was queued
        top.count = count;
        std::push_heap(queue_.begin(), queue_.end());
        continue;
      }
      if (count < 1 || count < options_.min_frequency) break;
      const Candidate best = top;
      queue_.pop_back();
      merge(best);
    }
    return result();
  }

 private:
  struct Candidate {
    int64_t count;
    PairKey pair;
    uint32_t places;  // index into places_: the words in which it was seen
    // The most frequent first; of equal count the pair of lower ids.
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };
  struct Word {
    std::vector<int32_t> symbols;
    int64_t count;
  };
  using NewPlaces = std::unordered_map<PairKey, std::vector<uint32_t>>;

  // Two pairs can spell the same token; it then has one id.
  int32_t id_of_new(const std::string& token) {
    const auto [found, added] = ids_.try_emplace(token, static_cast<int32_t>(tokens_.size()));
    if (added) tokens_.push_back(token);
    return found->second;
  }

  void add_words(const WordCounts& counts) {
    NewPlaces places;
    for (const auto& [text, count] : counts) {
      Word word{{}, count};
      for (const char c : text) word.symbols.push_back(byte_ids_[static_cast<unsigned char>(c)]);
      for (size_t i = 0; i + 1 < word.symbols.size(); ++i) {
        note(word.symbols[i], word.symbols[i + 1], count, static_cast<uint32_t>(words_.size()),
             places);
      }
      words_.push_back(std::move(word));
    }
    enqueue(places);
  }

  void note(int32_t left, int32_t right, int64_t count, uint32_t word, NewPlaces& places) {
    pair_counts_[key_of(left, right)] += count;
    std::vector<uint32_t>& words = places[key_of(left, right)];
    if (words.empty() || words.back() != word) words.push_back(word);
  }

  void enqueue(NewPlaces& places) {
    for (auto& [pair, words] : places) {
      const int64_t count = pair_counts_[pair];
      if (count <= 0) continue;
      queue_.push_back({count, pair, static_cast<uint32_t>(places_.size())});
      std::push_heap(queue_.begin(), queue_.end());
      places_.push_back(std::move(words));
    }
  }

  void merge(const Candidate& best) {
    const int32_t left = static_cast<int32_t>(best.pair >> 32);
    const int32_t right = static_cast<int32_t>(best.pair & UINT32_MAX);
    const int32_t merged = id_of_new(tokens_[left] + tokens_[right]);
    // The count of the pair itself stays, and a pair that is queued twice is merged twice: so the
    // other trainer has it, and the order of later merges depends on it.
    merges_[best.pair] = rank_++;
    NewPlaces new_places;
    for (const uint32_t index : std::exchange(places_[best.places], {})) {
      std::vector<int32_t>& symbols = words_[index].symbols;
      const int64_t count = words_[index].count;
      size_t kept = 0;
      for (size_t i = 0; i < symbols.size(); ++i) {
        const bool here = symbols[i] == left && i + 1 < symbols.size() && symbols[i + 1] == right;
        if (!here) {
          symbols[kept++] = symbols[i];
          continue;
        }
        if (kept > 0) {
          pair_counts_[key_of(symbols[kept - 1], left)] -= count;
          note(symbols[kept - 1], merged, count, index, new_places);
        }
        symbols[kept++] = merged;
        ++i;
        if (i + 1 < symbols.size()) {
          pair_counts_[key_of(right, symbols[i + 1])] -= count;
          note(merged, symbols[i + 1], count, index, new_places);
        }
      }
      symbols.resize(kept);
    }
    enqueue(new_places);
  }

  TrainedBpe result() const {
    std::vector<std::pair<int64_t, PairKey>> ranked;
    for (const auto& [pair, rank] : merges_) ranked.emplace_back(rank, pair);
    std::sort(ranked.begin(), ranked.end());
    TrainedBpe trained;
    trained.tokens = tokens_;
    for (const auto& [rank, pair] : ranked) {
      trained.merges.emplace_back(tokens_[pair >> 32], tokens_[pair & UINT32_MAX]);
    }
    return trained;
  }

  const BpeTrainerOptions& options_;
  std::vector<std::string> tokens_;  // by id
  std::unordered_map<std::string, int32_t> ids_;
  int32_t byte_ids_[256] = {};
  std::vector<Word> words_;
  std::unordered_map<PairKey, int64_t> pair_counts_;
  std::vector<Candidate> queue_;  // heap
  std::vector<std::vector<uint32_t>> places_;
  std::unordered_map<PairKey, int64_t> merges_;  // pair -> rank
  int64_t rank_ = 0;
};

void check(const BpeTrainerOptions& options) {
  constexpr int64_t kMostTokens = 1 << 24;
  const int64_t least = 256 + static_cast<int64_t>(options.special_tokens.size());
  if (options.vocab_size < least || options.vocab_size > kMostTokens) {
    throw InputError("train_byte_level_bpe", "vocab_size",
                     std::to_string(least) + " (256 bytes and the special tokens) to 2^24",
                     std::to_string(options.vocab_size));
  }
  for (const std::string& token : options.special_tokens) {
    const auto same =
        std::count(options.special_tokens.begin(), options.special_tokens.end(), token);
    if (token.empty() || same != 1 || utf8_valid_prefix(token) != token.size()) {
      throw InputError("train_byte_level_bpe", "special_tokens",
                       "different non-empty texts in UTF-8", "'" + utf8_repaired(token) + "'");
    }
  }
}

}  // namespace

std::string train_byte_level_bpe(const std::vector<std::string>& texts,
                                 const BpeTrainerOptions& options) {
  check(options);
  BpeTrainer trainer(options);
  return tokenizer_json(trainer.train(count_words(texts, options.add_prefix_space)), options);
}

}  // namespace hone::engine
