#pragma once

// The baseline that a reward model has to pass: logistic regression on words and bigrams. A text's
// score is the sum of the weights of its distinct words ([a-z']+, ! and ?, lower case) and bigrams
// over the root of their number; a vote is Bradley-Terry in the difference of two scores.

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
  double l2 = 1e-4;       // the penalty is l2 / 8 * (sum of squared weights), beside the mean loss
  int64_t min_count = 2;  // features seen in fewer training texts are dropped
  int64_t batch = 512;
  uint64_t seed = 0;
};

class BagOfWords {
 public:
  /// texts indexed by item; votes index into texts. The vocabulary comes from the texts that occur
  /// in `votes`. Adam, its rate falling by epoch to 0. Throws data::InputError on votes that index
  /// outside `texts`. Same arguments, same bits.
  static BagOfWords train(const std::vector<std::string>& texts, const std::vector<Vote>& votes,
                          const BagOfWordsOptions& options);
  bool empty() const { return weights_.empty(); }  // made from no votes: every score is 0
  float score(std::string_view text) const;
  std::vector<float> score(const std::vector<std::string>& texts) const;

  /// {"feature": weight, ...}, features in order of name.
  std::string to_json() const;
  /// Throws data::InputError naming `where` for anything else.
  static BagOfWords from_json(const std::string& text, const std::string& where);

 private:
  std::unordered_map<std::string, int32_t> vocabulary_;
  std::vector<float> weights_;
};

}  // namespace hone::reward
