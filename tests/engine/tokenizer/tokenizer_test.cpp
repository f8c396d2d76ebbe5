#include "engine/tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "data/error.h"

namespace hone::engine {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

// Characters with byte fallback, as sentencepiece-like models have them.
json fallback_model() {
  json model = json::parse(R"({
    "version": "1.0",
    "added_tokens": [
      {"id": 0, "content": "<unk>", "special": true, "normalized": false},
      {"id": 1, "content": "<s>", "special": true, "normalized": false},
      {"id": 2, "content": "</s>", "special": true, "normalized": false}],
    "normalizer": {"type": "Sequence", "normalizers": [
      {"type": "Prepend", "prepend": "\u2581"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
    "decoder": {"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
      {"type": "ByteFallback"},
      {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "byte_fallback": true, "unk_token": "<unk>",
      "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "\u2581": 259, "a": 260, "b": 261, "c": 262,
                "ab": 263, "abc": 264, "\u2581a": 265},
      "merges": [["a", "b"], ["ab", "c"], ["\u2581", "a"]]}})");
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    model["model"]["vocab"][name] = 3 + byte;
  }
  return model;
}

Tokenizer byte_level() {
  BpeTrainerOptions options;
  options.vocab_size = 400;
  return Tokenizer::parse(
      train_byte_level_bpe({"the theme of these films", "the end of the film, then"}, options),
      "trained");
}

TEST(TokenizerTest, MergesByRankLeftmostFirst) {
  const Tokenizer tokenizer = Tokenizer::parse(fallback_model().dump(), "model");
  EXPECT_EQ(tokenizer.vocab_size(), 266);
  // U+2581 a b c: "a b" has the lowest rank, then "ab c"; "U+2581 a" finds its a gone.
  EXPECT_EQ(tokenizer.encode("abc", false), (Ids{259, 264}));
  EXPECT_EQ(tokenizer.encode("a ca", false), (Ids{265, 259, 262, 260}));
  EXPECT_EQ(tokenizer.encode("\u20ac", false), (Ids{259, 3 + 0xE2, 3 + 0x82, 3 + 0xAC}));
  EXPECT_EQ(tokenizer.encode("a</s>b", false), (Ids{265, 2, 259, 261}));
  EXPECT_EQ(tokenizer.encode("", true), Ids{});
  EXPECT_EQ(tokenizer.decode({265, 259, 262, 2, 261}, true), "a cb");
  EXPECT_EQ(tokenizer.decode({265, 2, 261}, false), "a</s>b");
  EXPECT_EQ(tokenizer.decode({-1, 265, 1'000'000, 261}, false), "ab");
  EXPECT_EQ(tokenizer.id_of("abc"), 264);
  EXPECT_EQ(tokenizer.id_of("</s>"), 2);
  EXPECT_EQ(tokenizer.id_of("zzz"), -1);
  EXPECT_EQ(tokenizer.token_of(264), "abc");
  EXPECT_EQ(tokenizer.token_of(-7), "");
  EXPECT_EQ(tokenizer.token_of(266), "");
}

TEST(TokenizerTest, RepairsInvalidBytes) {
  const Tokenizer tokenizer = byte_level();
  for (const auto& [bytes, text] : std::vector<std::pair<std::string, std::string>>{
           {"a\xFFz", "a\uFFFDz"},
           {"\xE2\x82", "\uFFFD"},
           {"\xE2\x82z", "\uFFFDz"},
           {"\xC0\x80", "\uFFFD\uFFFD"},                      // overlong
           {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},            // a surrogate
           {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},  // above U+10FFFF
           {"\xF0\x9F\x98\x80", "\U0001F600"}}) {
    EXPECT_EQ(tokenizer.encode(bytes, false), tokenizer.encode(text, false));
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(bytes, false), false), " " + text);
  }
  const std::string controls("\0\x01\x7F", 3);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(controls, false), false), " " + controls);
}

// Pushing ids one by one gives decode() of all, and every part is whole characters.
TEST(TokenizerTest, StreamsWholeCharacters) {
  std::mt19937 random(3);
  for (const bool fallback : {true, false}) {
    const Tokenizer tokenizer =
        fallback ? Tokenizer::parse(fallback_model().dump(), "model") : byte_level();
    const std::string text = "ab \u20ac\U0001F600 c\u00e9 a\u20acb  abc\u4f60";
    for (int round = 0; round < 400; ++round) {
      // True text first, then random ids: bytes in every wrong order.
      Ids ids = tokenizer.encode(text, true);
      if (round > 0) {
        for (int32_t& id : ids) {
          if (random() % 2) id = static_cast<int32_t>(random() % tokenizer.vocab_size());
        }
      }
      for (const bool skip : {true, false}) {
        StreamDecoder stream(tokenizer, skip);
        std::string streamed;
        for (const int32_t id : ids) {
          const std::string part = stream.push(id);
          if (round == 0) {
            EXPECT_EQ(part.find("\uFFFD"), std::string::npos);
          }
          streamed += part;
        }
        streamed += stream.finish();
        ASSERT_EQ(streamed, tokenizer.decode(ids, skip)) << round;
      }
    }
  }
}

// A million characters without a boundary: quadratic work would take minutes.
TEST(TokenizerTest, TakesLongWords) {
  std::string random_letters(1'000'000, 'a');
  std::mt19937 random(1);
  for (char& c : random_letters) c = "abc thefilm"[random() % 11];
  std::string word = random_letters;
  std::erase(word, ' ');
  for (const bool fallback : {true, false}) {
    const Tokenizer tokenizer =
        fallback ? Tokenizer::parse(fallback_model().dump(), "model") : byte_level();
    for (const std::string& text :
         {word, random_letters, std::string(1'000'000, 'a'), std::string(1'000'000, ' '),
          std::string(1'000'000, ' ') + "x", std::string(1'000'000, '<')}) {
      const auto begin = std::chrono::steady_clock::now();
      const Ids ids = tokenizer.encode(text, false);
      const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
      const std::string decoded = tokenizer.decode(ids, false);
      EXPECT_TRUE(decoded.ends_with(text)) << text.substr(0, 10);
      EXPECT_LT(seconds.count(), 30) << text.substr(0, 10);
    }
  }
}

TEST(TokenizerTest, EncodesFromManyThreads) {
  const Tokenizer tokenizer = byte_level();
  const auto text_of = [](int i) { return "the film " + std::to_string(i * 7919) + " ends"; };
  std::vector<Ids> expected;
  for (int i = 0; i < 200; ++i) expected.push_back(tokenizer.encode(text_of(i), true));
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < 200; ++i)
        wrong[thread] += tokenizer.encode(text_of(i), true) != expected[i];
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4));
}

// Viterbi by hand: "abc" as ab + c (-3) beats a + b + c (-6) and a + bc (-4); equal scores keep the
// path that was found first, the one whose last token is longest.
TEST(TokenizerTest, SegmentsByProbability) {
  json file = json::parse(R"({"added_tokens": [], "model": {"type": "Unigram", "unk_id": 0, "vocab":
    [["<unk>", 0], ["a", -2], ["b", -2], ["c", -2], ["ab", -1], ["bc", -2], ["d", -3.5],
     ["cd", -4.5], ["<0xC3>", -9], ["<0xA9>", -9]]}})");
  const Tokenizer tokenizer = Tokenizer::parse(file.dump(), "unigram");
  EXPECT_EQ(tokenizer.encode("abc", false), (Ids{4, 3}));
  EXPECT_EQ(tokenizer.encode("abcd", false), (Ids{4, 7}));
  EXPECT_EQ(tokenizer.encode("a\u00e9\u00e8\u4f60b", false), (Ids{1, 0, 2}));  // one unknown
  EXPECT_EQ(tokenizer.decode({4, 3}, false), "ab c");
  file["model"]["byte_fallback"] = true;
  const Tokenizer fallback = Tokenizer::parse(file.dump(), "unigram");
  EXPECT_EQ(fallback.encode("a\u00e9b", false), (Ids{1, 8, 9, 2}));
  EXPECT_EQ(fallback.encode("a\u00e9\u00e8b", false), (Ids{1, 0, 2}));  // not all bytes known
  file["model"]["unk_id"] = nullptr;
  EXPECT_THROW(Tokenizer::parse(file.dump(), "unigram").encode("z", false), data::InputError);
}

// Each patch is merged into a model that is fine; the error names the file and the field.
TEST(TokenizerTest, RefusesWhatWouldChangeIds) {
  const std::pair<const char*, const char*> kCases[] = {
      {"model.type", R"({"model":{"type":"WordPiece"}})"},
      {"model.vocab", R"({"model":{"type":"Unigram"}})"},
      {"model.vocab[0]", R"({"model":{"type":"Unigram","vocab":[["a"]]}})"},
      {"model.vocab[1]", R"({"model":{"type":"Unigram","vocab":[["a",-1],["b","c"]]}})"},
      {"\"a\"", R"({"model":{"type":"Unigram","vocab":[["a",-1],["a",-2]]}})"},
      {"model.unk_id", R"({"model":{"type":"Unigram","vocab":[["a",-1]],"unk_id":1}})"},
      {"model.dropout", R"({"model":{"dropout":0.1}})"},
      {"model.end_of_word_suffix", R"({"model":{"end_of_word_suffix":3}})"},
      {"model.merges[0]", R"({"model":{"continuing_subword_prefix":"##"}})"},
      {"model.byte_fallback", R"({"model":{"byte_fallback":"yes"}})"},
      {"\"zz\"", R"({"model":{"vocab":{"zz":260}}})"},  // the id of "a"
      {"\"zz\"", R"({"model":{"vocab":{"zz":-1}}})"},
      {"\"zz\"", R"({"model":{"vocab":{"zz":1.5}}})"},
      {"\"zz\"", R"({"model":{"vocab":{"zz":2000000000}}})"},
      {"\"zz\"", R"({"model":{"vocab":{"zz":1e30}}})"},
      {"model.vocab", R"({"model":{"vocab":[1]}})"},
      {"model.merges[0]", R"({"model":{"merges":[["a","zz"]]}})"},
      {"model.merges[0]", R"({"model":{"merges":[["a","c"]]}})"},
      {"model.merges[1]", R"({"model":{"merges":[["a","b"],["a","b","c"]]}})"},
      {"model.merges[0]", R"({"model":{"merges":["a b c"]}})"},
      {"model.merges[0]", R"({"model":{"merges":[7]}})"},
      {"model.merges", R"({"model":{"merges":"a b"}})"},
      {"model", R"({"model":"BPE"})"},
      {"'vocab'", R"({"model":{"vocab":null}})"},
      {"normalizer.type", R"({"normalizer":{"type":"BertNormalizer"}})"},
      {"'precompiled_charsmap'", R"({"normalizer":{"type":"Precompiled"}})"},
      {"precompiled_charsmap",
       R"({"normalizer":{"type":"Precompiled","precompiled_charsmap":"////"}})"},
      {"precompiled_charsmap",
       R"({"normalizer":{"type":"Precompiled","precompiled_charsmap":"AAA?"}})"},
      {"pattern", R"({"normalizer":{"type":"Replace","pattern":{"Regex":"("},"content":""}})"},
      {"pre_tokenizer.type", R"({"pre_tokenizer":{"type":"UnicodeScripts"}})"},
      {"behavior",
       R"({"pre_tokenizer":{"type":"Split","pattern":{"String":"a"},"behavior":"Odd"}})"},
      {"pattern",
       R"({"pre_tokenizer":{"type":"Split","pattern":{"Regex":"\\h"},"behavior":"Isolated"}})"},
      {"decoder", R"({"decoder":{"type":"CTC","decoders":null}})"},
      {"post_processor.type", R"({"post_processor":{"type":"Odd"}})"},
      {"post_processor",
       R"({"post_processor":{"type":"BertProcessing","cls":["x",9999],"sep":["x",1]}})"},
      {"added_tokens[0].id", R"({"added_tokens":[{"id":7,"content":"abc"}]})"},
      {"added_tokens[0].id", R"({"added_tokens":[{"id":264,"content":"new"}]})"},
      {"added_tokens[0].id", R"({"added_tokens":[{"id":267,"content":"new"}]})"},
      {"added_tokens[1]",
       R"({"added_tokens":[{"id":266,"content":"n"},{"id":267,"content":"n"}]})"},
      {"added_tokens[0].content", R"({"added_tokens":[{"id":266,"content":""}]})"},
      {"added_tokens[0].id", R"({"added_tokens":[{"id":-1,"content":"new"}]})"},
      {"added_tokens[0].id", R"({"added_tokens":[{"id":1099511627776,"content":"new"}]})"},
      {"added_tokens[0].id", R"({"added_tokens":[{"id":1073741824,"content":"new"}]})"},
      {"added_tokens", R"({"added_tokens":3})"},
  };
  for (const auto& [field, patch] : kCases) {
    json model = fallback_model();
    model.merge_patch(json::parse(patch));
    try {
      Tokenizer::parse(model.dump(), "some/tokenizer.json");
      ADD_FAILURE() << "accepted: " << patch;
    } catch (const data::InputError& error) {
      const std::string text = error.what();
      EXPECT_NE(text.find("some/tokenizer.json"), std::string::npos) << text;
      EXPECT_NE(text.find(field), std::string::npos) << text;
      EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    }
  }
}

}  // namespace
}  // namespace hone::engine
