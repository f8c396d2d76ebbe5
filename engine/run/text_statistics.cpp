#include "engine/run/text_statistics.h"

#include <cctype>

namespace hone::engine {
namespace {

constexpr size_t kCopyLength = 6;

/// Runs of letters, digits, underscores, apostrophes and bytes outside ASCII, lower-cased.
std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  std::string word;
  for (const char c : text + " ") {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80 || std::isalnum(byte) || c == '_' || c == '\'') {
      word += static_cast<char>(std::tolower(byte));
    } else if (!word.empty()) {
      words.push_back(std::move(word));
      word.clear();
    }
  }
  return words;
}

std::string gram(const std::vector<std::string>& words, size_t at, size_t count) {
  std::string text;
  for (size_t i = at; i < at + count; ++i) text += words[i] + ' ';
  return text;
}

double share(size_t part, size_t whole) {
  return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

TextStatisticsReference::TextStatisticsReference(const std::vector<std::string>& training_texts) {
  for (const auto& text : training_texts) {
    const auto words = words_of(text);
    words_.insert(words.begin(), words.end());
    for (size_t i = 0; i + kCopyLength <= words.size(); ++i) {
      six_grams_.insert(gram(words, i, kCopyLength));
    }
  }
}

TextStatistics TextStatisticsReference::of(const std::vector<std::string>& texts) const {
  size_t words_total = 0, words_real = 0, grams_total = 0, grams_copied = 0, bigrams_total = 0;
  std::unordered_set<std::string> bigrams;
  for (const auto& text : texts) {
    const auto words = words_of(text);
    words_total += words.size();
    for (const auto& word : words) words_real += words_.count(word);
    for (size_t i = 0; i + 2 <= words.size(); ++i, ++bigrams_total) {
      bigrams.insert(gram(words, i, 2));
    }
    for (size_t i = 0; i + kCopyLength <= words.size(); ++i, ++grams_total) {
      grams_copied += six_grams_.count(gram(words, i, kCopyLength));
    }
  }
  return {.real_words = share(words_real, words_total),
          .copied_six_grams = share(grams_copied, grams_total),
          .distinct_bigrams = share(bigrams.size(), bigrams_total),
          .words = share(words_total, texts.size())};
}

}  // namespace hone::engine
