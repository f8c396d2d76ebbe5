#pragma once

// The baseline that a reward model has to pass: logistic regression on words and bigrams.

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "reward/preference_data.h"

namespace hone::reward {

struct BagOfWordsOptions {
  int64_t epochs = 8;
  double learning_rate = 0.05;
  double l2 = 1e-4;
  int64_t min_count = 2;  // features seen in fewer training texts are dropped
  int64_t batch = 512;
  uint64_t seed = 0;
};

class BagOfWords {
 public:
  /// texts indexed by item; votes index into texts.
  static BagOfWords train(const std::vector<std::string>& texts, const std::vector<Vote>& votes,
                          const BagOfWordsOptions& options);
  float score(std::string_view text) const;
  std::vector<float> score(const std::vector<std::string>& texts) const;

 private:
  std::unordered_map<std::string, int32_t> vocabulary_;
  std::vector<float> weights_;
};

}  // namespace hone::reward
