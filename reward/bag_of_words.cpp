#include "reward/bag_of_words.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <unordered_set>

#include "data/error.h"
#include "reward/random.h"

namespace hone::reward {
namespace {

/// Words [a-z']+ and the marks ! and ?, ASCII lower case, in order.
std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  const auto end_word = [&] {
    if (!word.empty()) words.push_back(std::move(word));
    word.clear();
  };
  for (char c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if ((c >= 'a' && c <= 'z') || c == '\'') {
      word.push_back(c);
      continue;
    }
    end_word();
    if (c == '!' || c == '?') words.emplace_back(1, c);
  }
  end_word();
  return words;
}

/// Distinct words and bigrams ("a_b") of a text, in order of first appearance.
std::vector<std::string> features(std::string_view text) {
  const auto words = split_words(text);
  std::vector<std::string> out;
  std::unordered_set<std::string> seen;
  const auto add = [&](std::string feature) {
    if (seen.insert(feature).second) out.push_back(std::move(feature));
  };
  for (const auto& word : words) add(word);
  for (size_t i = 1; i < words.size(); ++i) add(words[i - 1] + "_" + words[i]);
  return out;
}

float inverse_root(size_t count) {
  return 1.0f / std::sqrt(static_cast<float>(std::max<size_t>(count, 1)));
}

/// Adam (beta .9, .999; eps 1e-8) on every weight each step: with 10^4 to 10^5 weights and
/// hundreds of steps this takes tens of milliseconds, and the l2 term is not sparse anyway.
class Adam {
 public:
  explicit Adam(size_t size) : m_(size), v_(size) {}
  void step(std::vector<float>& weights, const std::vector<float>& grad, float l2, float lr) {
    decay1_ *= kBeta1;
    decay2_ *= kBeta2;
    const auto rate = static_cast<float>(lr / (1.0 - decay1_));
    const auto root = static_cast<float>(1.0 / std::sqrt(1.0 - decay2_));
    const auto b1 = static_cast<float>(kBeta1), b2 = static_cast<float>(kBeta2);
    for (size_t i = 0; i < weights.size(); ++i) {
      const float g = grad[i] + l2 * weights[i];
      m_[i] = b1 * m_[i] + (1.0f - b1) * g;
      v_[i] = b2 * v_[i] + (1.0f - b2) * g * g;
      weights[i] -= rate * m_[i] / (std::sqrt(v_[i]) * root + 1e-8f);
    }
  }

 private:
  static constexpr double kBeta1 = 0.9, kBeta2 = 0.999;
  std::vector<float> m_, v_;
  double decay1_ = 1.0, decay2_ = 1.0;
};

}  // namespace

BagOfWords BagOfWords::train(const std::vector<std::string>& texts, const std::vector<Vote>& votes,
                             const BagOfWordsOptions& options) {
  if (options.batch < 1) {
    throw data::InputError("bag of words", "batch", "at least 1", std::to_string(options.batch));
  }
  std::vector<char> voted(texts.size(), 0);
  for (const auto& vote : votes) {
    for (const int64_t item : {vote.first, vote.second}) {
      if (item < 0 || item >= static_cast<int64_t>(texts.size())) {
        throw data::InputError("bag of words", "vote",
                               "an item index below " + std::to_string(texts.size()),
                               std::to_string(item));
      }
      voted[static_cast<size_t>(item)] = 1;
    }
  }

  // Vocabulary in order of first appearance, so that the weights' order is reproducible.
  BagOfWords bag;
  std::unordered_map<std::string, int32_t> counts;
  std::vector<std::string> order;
  std::vector<std::vector<std::string>> words(texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    if (!voted[i]) continue;
    words[i] = features(texts[i]);
    for (const auto& word : words[i]) {
      if (++counts[word] == 1) order.push_back(word);
    }
  }
  for (const auto& word : order) {
    if (counts[word] < options.min_count) continue;
    bag.vocabulary_.emplace(word, static_cast<int32_t>(bag.vocabulary_.size()));
  }
  std::vector<std::vector<int32_t>> ids(texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    for (const auto& word : words[i]) {
      const auto found = bag.vocabulary_.find(word);
      if (found != bag.vocabulary_.end()) ids[i].push_back(found->second);
    }
  }

  auto& weights = bag.weights_;
  weights.assign(bag.vocabulary_.size(), 0.0f);
  std::vector<float> grad(weights.size());
  std::vector<size_t> permutation(votes.size());
  std::iota(permutation.begin(), permutation.end(), size_t{0});
  Adam adam(weights.size());
  Random random(options.seed);
  const auto score = [&](const std::vector<int32_t>& text) {
    float sum = 0.0f;
    for (const int32_t id : text) sum += weights[static_cast<size_t>(id)];
    return sum * inverse_root(text.size());
  };
  const auto add_gradient = [&](const std::vector<int32_t>& text, float amount) {
    amount *= inverse_root(text.size());
    for (const int32_t id : text) grad[static_cast<size_t>(id)] += amount;
  };
  const auto batch = static_cast<size_t>(options.batch);
  for (int64_t epoch = 0; epoch < options.epochs; ++epoch) {
    const double left = 1.0 - static_cast<double>(epoch) / static_cast<double>(options.epochs);
    random.shuffle(permutation);
    for (size_t begin = 0; begin < votes.size(); begin += batch) {
      const size_t end = std::min(begin + batch, votes.size());
      std::fill(grad.begin(), grad.end(), 0.0f);
      for (size_t k = begin; k < end; ++k) {
        const auto& vote = votes[permutation[k]];
        const auto& first = ids[static_cast<size_t>(vote.first)];
        const auto& second = ids[static_cast<size_t>(vote.second)];
        const float p = 1.0f / (1.0f + std::exp(score(second) - score(first)));
        const float slope = (p - vote.target) / static_cast<float>(end - begin);
        add_gradient(first, slope);
        add_gradient(second, -slope);
      }
      adam.step(weights, grad, static_cast<float>(options.l2 / 4.0),
                static_cast<float>(options.learning_rate * left));
    }
  }
  return bag;
}

float BagOfWords::score(std::string_view text) const {
  float sum = 0.0f;
  size_t known = 0;
  for (const auto& word : features(text)) {
    const auto found = vocabulary_.find(word);
    if (found == vocabulary_.end()) continue;
    sum += weights_[static_cast<size_t>(found->second)];
    ++known;
  }
  return sum * inverse_root(known);
}

std::vector<float> BagOfWords::score(const std::vector<std::string>& texts) const {
  std::vector<float> scores;
  scores.reserve(texts.size());
  for (const auto& text : texts) scores.push_back(score(text));
  return scores;
}

}  // namespace hone::reward
