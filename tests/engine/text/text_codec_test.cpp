#include "engine/text/text_codec.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "data/error.h"

namespace hone::engine {
namespace {

using nlohmann::json;

// Ids 0 to 5 are the special tokens; letters follow. `bos`: the post-processor puts <bos> first.
Tokenizer letters(bool bos) {
  json file = json::parse(R"({"added_tokens": [], "model": {"type": "BPE", "merges": [],
                              "vocab": {}}})");
  const char* names[] = {"<pad>", "<bos>", "<eos>", "<|im_start|>", "<|im_end|>", "\n"};
  for (int id = 0; id < 6; ++id) {
    file["model"]["vocab"][names[id]] = id;
    if (id < 5) {
      file["added_tokens"].push_back(
          {{"id", id}, {"content", names[id]}, {"special", true}, {"normalized", false}});
    }
  }
  for (char c = 'a'; c <= 'z'; ++c) file["model"]["vocab"][std::string(1, c)] = 6 + c - 'a';
  if (bos) {
    file["post_processor"] = json::parse(R"({"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}},
                 {"Sequence": {"id": "A", "type_id": 0}}],
      "special_tokens": {"<bos>": {"id": "<bos>", "ids": [1], "tokens": ["<bos>"]}}})");
  }
  return Tokenizer::parse(file.dump(), "letters");
}

ModelConfig config() {
  ModelConfig config;
  config.vocab_size = 40;
  config.max_positions = 64;
  config.bos_id = 1;
  config.eos_id = 2;
  return config;
}

TokenIds ids_of(const std::string& text) {
  TokenIds ids;
  for (const char c : text) ids.push_back(c == '\n' ? 5 : 6 + c - 'a');
  return ids;
}

TokenIds operator+(TokenIds left, const TokenIds& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

// transformers puts what the tokenizer says, not what the config names.
TEST(TextCodec, BeginsAsTheTokenizerSays) {
  const TextCodec with(letters(true), config(), 32), without(letters(false), config(), 32);
  EXPECT_EQ(with.prompt("film", 8), TokenIds{1} + ids_of("film"));
  EXPECT_EQ(without.prompt("film", 8), ids_of("film"));
  EXPECT_EQ(with.prompt("", 8), TokenIds{1});
  EXPECT_EQ(without.prompt("", 8), TokenIds{1});  // generation has to begin with something
  const TrainingText text = with.text("film", "ends");
  EXPECT_EQ(text.tokens, TokenIds{1} + ids_of("filmends") + TokenIds{2});
  EXPECT_EQ(text.prompt_tokens, 5);
  EXPECT_EQ(without.text("film", "ends").tokens, ids_of("filmends") + TokenIds{2});
  EXPECT_EQ(without.text("film", "ends").prompt_tokens, 4);
}

TEST(TextCodec, CutsPromptsAndAnswers) {
  const TextCodec codec(letters(true), config(), 8);
  EXPECT_EQ(codec.prompt("abcdefghij", 3), TokenIds{1} + ids_of("ghij"));
  const TrainingText text = codec.text("abcdefghij", "klmnopq");
  EXPECT_EQ(text.tokens, TokenIds{1} + ids_of("hijklm"));
  EXPECT_EQ(text.prompt_tokens, 4);
}

// A conversation says itself how it begins, and ends with its format's token.
TEST(TextCodec, PutsMessagesInTheChatFormat) {
  const TextCodec chat(letters(true), config(), 64, ChatFormat::named("chatml"));
  const std::string messages = R"([{"role": "user", "content": "hi"}])";
  const std::string prompt = chat.prompt_text(messages, true);
  EXPECT_EQ(prompt, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(chat.prompt_text("plain", false), "plain");
  const TokenIds head =
      TokenIds{3} + ids_of("user\nhi") + TokenIds{4, 5, 3} + ids_of("assistant\n");
  EXPECT_EQ(chat.prompt(prompt, 8), head);
  const TrainingText text = chat.text(prompt, "yes");
  EXPECT_EQ(text.tokens, head + ids_of("yes") + TokenIds{4});
  EXPECT_EQ(text.prompt_tokens, static_cast<int64_t>(head.size()));
  EXPECT_EQ(chat.text("hi", "yes").tokens, TokenIds{1} + ids_of("hiyes") + TokenIds{2});

  const TextCodec plain(letters(true), config(), 64);
  EXPECT_EQ(plain.prompt_text(messages, true), "user: hi\nassistant:");
  EXPECT_THROW(plain.prompt_text("[]", true), data::InputError);
  EXPECT_THROW(plain.prompt_text("{", true), data::InputError);
}

}  // namespace
}  // namespace hone::engine
