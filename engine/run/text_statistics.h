#pragma once

// What a score alone does not show: is it still language, is it copied, how long is it.

#include <string>
#include <unordered_set>
#include <vector>

namespace hone::engine {

struct TextStatistics {
  double real_words = 0;        // share of words that occur in the training texts
  double copied_six_grams = 0;  // share of 6-word sequences that occur in the training texts
  double distinct_bigrams = 0;  // distinct word pairs over all word pairs
  double words = 0;             // mean words a text
};

class TextStatisticsReference {
 public:
  explicit TextStatisticsReference(const std::vector<std::string>& training_texts);
  TextStatistics of(const std::vector<std::string>& texts) const;

 private:
  std::unordered_set<std::string> words_, six_grams_;
};

}  // namespace hone::engine
