#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "data/error.h"
#include "engine/tokenizer/tokenizer.h"

namespace hone::engine {
namespace {

using nlohmann::json;

// The definition, without any bookkeeping: count all pairs, merge the most frequent, again. Words
// of letters and single spaces only, whose ids are 3 + rank in the byte alphabet.
std::vector<std::pair<std::string, std::string>> merges_by_definition(
    const std::vector<std::string>& words, int merges, int64_t min_frequency) {
  std::map<std::string, int> ids;
  for (char c = 'a'; c <= 'z'; ++c) ids[std::string(1, c)] = static_cast<int>(ids.size());
  ids["\xC4\xA0"] = 1000;  // the space's character comes behind all letters
  int next_id = 2000;
  std::vector<std::vector<std::string>> corpus;
  for (const std::string& word : words) {
    corpus.push_back({"\xC4\xA0"});
    for (const char c : word) corpus.back().push_back(std::string(1, c));
  }
  std::vector<std::pair<std::string, std::string>> result;
  while (static_cast<int>(result.size()) < merges) {
    std::map<std::pair<std::string, std::string>, int64_t> counts;
    for (const auto& word : corpus) {
      for (size_t i = 0; i + 1 < word.size(); ++i) ++counts[{word[i], word[i + 1]}];
    }
    std::pair<std::string, std::string> best;
    int64_t most = 0;
    for (const auto& [pair, count] : counts) {
      const auto order = [&](const auto& p) { return std::pair(ids[p.first], ids[p.second]); };
      if (count > most || (count == most && order(pair) < order(best))) {
        best = pair;
        most = count;
      }
    }
    if (most < min_frequency) break;
    result.push_back(best);
    ids.try_emplace(best.first + best.second, next_id++);
    for (auto& word : corpus) {
      std::vector<std::string> merged;
      for (size_t i = 0; i < word.size(); ++i) {
        if (i + 1 < word.size() && word[i] == best.first && word[i + 1] == best.second) {
          merged.push_back(word[i] + word[i + 1]);
          ++i;
        } else {
          merged.push_back(word[i]);
        }
      }
      word = merged;
    }
  }
  return result;
}

TEST(BpeTrainer, FollowsTheDefinition) {
  std::mt19937 random(5);
  for (int round = 0; round < 5; ++round) {
    std::vector<std::string> words;
    std::string text;
    for (int i = 0; i < 200; ++i) {
      // Lengths and letters such that few pairs tie with a pair that spells the same token.
      std::string word;
      for (size_t n = 2 + random() % 6; n > 0; --n) {
        word += static_cast<char>('a' + std::min(random() % 20, random() % 20));
      }
      words.push_back(word);
      text += (i > 0 ? " " : "") + word;
    }
    BpeTrainerOptions options;
    options.vocab_size = 256 + 3 + 60;
    const json trained = json::parse(train_byte_level_bpe({text}, options));
    const auto expected = merges_by_definition(words, 60, 2);
    const json& merges = trained["model"]["merges"];
    ASSERT_EQ(merges.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(merges[i], json({expected[i].first, expected[i].second})) << i;
    }
  }
}

TEST(BpeTrainer, WritesATokenizerThatReadsBack) {
  BpeTrainerOptions options;
  options.vocab_size = 300;
  const std::vector<std::string> texts(5, "the cat \xE2\x82\xAC the hat, the \xFF bat");
  const std::string text = train_byte_level_bpe(texts, options);
  EXPECT_EQ(text, train_byte_level_bpe(texts, options)) << "not deterministic";
  const Tokenizer tokenizer = Tokenizer::parse(text, "trained");
  EXPECT_LE(tokenizer.vocab_size(), 300);
  EXPECT_GT(tokenizer.vocab_size(), 260);
  EXPECT_EQ(tokenizer.id_of("<pad>"), 0);
  EXPECT_EQ(tokenizer.id_of("<bos>"), 1);
  EXPECT_EQ(tokenizer.id_of("<eos>"), 2);
  EXPECT_EQ(tokenizer.id_of("!"), 3);
  const std::vector<int32_t> plain = tokenizer.encode("the \xE2\x82\xAC z<eos>", false);
  const std::vector<int32_t> ids = tokenizer.encode("the \xE2\x82\xAC z<eos>", true);
  ASSERT_EQ(ids.size(), plain.size() + 1);
  EXPECT_EQ(ids.front(), 1);
  EXPECT_EQ(ids.back(), 2);
  EXPECT_EQ(tokenizer.decode(ids, true), " the \xE2\x82\xAC z");
  EXPECT_EQ(tokenizer.decode(plain, false), " the \xE2\x82\xAC z<eos>");

  options.special_tokens = {"<end>"};
  options.add_prefix_space = false;
  const Tokenizer other = Tokenizer::parse(train_byte_level_bpe(texts, options), "trained");
  EXPECT_EQ(other.encode("the", true), other.encode("the", false));
  EXPECT_EQ(other.decode(other.encode("the", true), true), "the");
}

TEST(BpeTrainer, StopsWhenNothingRepeatsAndTakesEmptyText) {
  BpeTrainerOptions options;
  options.vocab_size = 2048;
  for (const std::vector<std::string>& texts : {std::vector<std::string>{}, {"", ""}, {"abc"}}) {
    EXPECT_EQ(Tokenizer::parse(train_byte_level_bpe(texts, options), "trained").vocab_size(), 259);
  }
}

TEST(BpeTrainer, RefusesImpossibleOptions) {
  const auto refused = [](int64_t vocab_size, std::vector<std::string> special_tokens) {
    BpeTrainerOptions options;
    options.vocab_size = vocab_size;
    options.special_tokens = std::move(special_tokens);
    EXPECT_THROW(train_byte_level_bpe({"a"}, options), data::InputError);
  };
  refused(258, {"<pad>", "<bos>", "<eos>"});
  refused(-1, {});
  refused(int64_t{1} << 40, {});
  refused(2048, {"<a>", "<a>"});
  refused(2048, {""});
  refused(2048, {"\xFF"});
}

// tests/python/tokenizer_test.py trains on the same texts with the `tokenizers` package.
TEST(BpeTrainer, TrainsForTheJudge) {
  const char* texts = std::getenv("HONE_TRAIN_TEXTS");
  const char* output = std::getenv("HONE_TRAIN_OUTPUT");
  const char* vocab_size = std::getenv("HONE_TRAIN_VOCAB_SIZE");
  if (texts == nullptr || output == nullptr || vocab_size == nullptr) {
    GTEST_SKIP() << "run by tests/python/tokenizer_test.py";
  }
  BpeTrainerOptions options;
  options.vocab_size = std::atoll(vocab_size);
  std::ifstream input(texts);
  std::ofstream(output) << train_byte_level_bpe(json::parse(input), options);
}

}  // namespace
}  // namespace hone::engine
