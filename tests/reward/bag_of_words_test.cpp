#include "reward/bag_of_words.h"

#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "data/error.h"
#include "reward/evaluation.h"

namespace hone::reward {
namespace {

const char* const kWords[] = {"plot", "actor", "scene", "music", "camera", "story", "film", "cut"};

std::string noise(std::mt19937& random, int words) {
  std::string text;
  for (int w = 0; w < words; ++w) text += std::string(w ? " " : "") + kWords[random() % 8];
  return text;
}

struct Planted {
  std::vector<std::string> texts;
  std::vector<Vote> train, test;
};

/// Half of the texts hold `mark`; whoever compares prefers those, nine times in ten.
Planted planted(const std::string& mark, const std::string& other, int votes) {
  std::mt19937 random(4);
  Planted out;
  for (int i = 0; i < 400; ++i) {
    out.texts.push_back(noise(random, 6) + " " + (i % 2 ? mark : other) + " " + noise(random, 6));
  }
  for (int v = 0; v < votes; ++v) {
    const auto a = static_cast<int64_t>(random() % 400), b = static_cast<int64_t>(random() % 400);
    if (a % 2 == b % 2) {
      out.train.push_back({a, b, 0.5f});
      continue;
    }
    out.train.push_back({a, b, (a % 2 == 1) == (random() % 10 > 0) ? 1.0f : 0.0f});
    out.test.push_back({a, b, a % 2 == 1 ? 1.0f : 0.0f});
  }
  return out;
}

TEST(BagOfWords, LearnsAPlantedWord) {
  const auto data = planted("superb", "dull", 6000);
  const auto bag = BagOfWords::train(data.texts, data.train, {});
  EXPECT_GT(pair_accuracy(bag.score(data.texts), data.test), 0.99);
  EXPECT_GT(bag.score("a superb evening"), bag.score("a dull evening"));
}

TEST(BagOfWords, LearnsABigramWhoseWordsSayNothing) {
  const auto data = planted("so good not bad", "so bad not good", 12000);
  const auto bag = BagOfWords::train(data.texts, data.train, {});
  EXPECT_GT(pair_accuracy(bag.score(data.texts), data.test), 0.95);
}

TEST(BagOfWords, ReadsWordsInLowerCaseAndTheTwoMarks) {
  const auto data = planted("superb!", "dull", 4000);
  const auto bag = BagOfWords::train(data.texts, data.train, {});
  EXPECT_EQ(bag.score("SUPERB!"), bag.score("superb!"));
  EXPECT_EQ(bag.score("superb, (2024) !"), bag.score("superb !"));
  EXPECT_NE(bag.score("superb!"), bag.score("superb"));
  EXPECT_EQ(bag.score("superb superb"), bag.score("superb"));  // the bigram is unknown
  EXPECT_EQ(bag.score(""), 0.0f);
  EXPECT_EQ(bag.score("\xc3\xa9\xff\x01"), 0.0f);
}

TEST(BagOfWords, RareFeaturesAndTextsOutsideTheVotesStayOut) {
  const std::vector<std::string> texts = {"good once", "bad", "good", "bad", "unseen", "unseen"};
  std::vector<Vote> votes(200, Vote{0, 1, 1.0f});
  votes.resize(400, Vote{2, 3, 1.0f});
  const auto bag = BagOfWords::train(texts, votes, {});
  EXPECT_EQ(bag.score("once"), 0.0f);
  EXPECT_EQ(bag.score("unseen"), 0.0f);
  EXPECT_GT(bag.score("good"), 0.0f);
  EXPECT_LT(bag.score("bad"), 0.0f);
}

TEST(BagOfWords, SameSeedSameBits) {
  const auto data = planted("superb", "dull", 2000);
  const auto a = BagOfWords::train(data.texts, data.train, {.seed = 1}).score(data.texts);
  EXPECT_EQ(a, BagOfWords::train(data.texts, data.train, {.seed = 1}).score(data.texts));
  EXPECT_NE(a, BagOfWords::train(data.texts, data.train, {.seed = 2}).score(data.texts));
}

TEST(BagOfWords, BadInputIsAnInputErrorAndNoVotesAreFine) {
  EXPECT_THROW(BagOfWords::train({"a"}, {{0, 1, 1.0f}}, {}), data::InputError);
  EXPECT_THROW(BagOfWords::train({"a"}, {}, {.batch = 0}), data::InputError);
  EXPECT_EQ(BagOfWords::train({"a"}, {}, {}).score("a"), 0.0f);
}

TEST(BagOfWords, ThirtyTwoThousandVotesTakeSeconds) {
  std::mt19937 random(6);
  std::vector<std::string> texts;
  for (int i = 0; i < 8500; ++i) {
    std::string text;
    for (int w = 0; w < 20; ++w)
      text += "w" + std::string(1 + random() % 3, 'a' + random() % 26) + " ";
    texts.push_back(text);
  }
  std::vector<Vote> votes;
  for (int v = 0; v < 32000; ++v) {
    votes.push_back({static_cast<int64_t>(random() % 8500), static_cast<int64_t>(random() % 8500),
                     static_cast<float>(random() % 2)});
  }
  const auto start = std::chrono::steady_clock::now();
  BagOfWords::train(texts, votes, {});
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  // About 0.4 s alone on one core; the limit catches only an accidental change of order.
  EXPECT_LT(seconds.count(), 10.0);
}

}  // namespace
}  // namespace hone::reward
