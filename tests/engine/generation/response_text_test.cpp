#include "engine/generation/response_text.h"

#include <gtest/gtest.h>

#include <random>

#include "engine/tokenizer/utf8.h"

namespace hone::engine {
namespace {

/// A byte-level tokenizer whose merges cut texts in other places than stop strings do.
Tokenizer byte_level() {
  return Tokenizer::parse(
      train_byte_level_bpe({"the end of the story END of the line\n\nthe END\n\n tätä tätä ###"},
                           {.vocab_size = 290, .add_prefix_space = false, .min_frequency = 1}),
      "test");
}

/// Sentencepiece-like, with byte tokens: what a byte is shows only when the run of bytes ends.
Tokenizer byte_fallback() {
  std::string vocab = R"("<unk>": 0, "<s>": 1, "</s>": 2)";
  const char* digits = "0123456789ABCDEF";
  for (int byte = 0; byte < 256; ++byte) {
    vocab += std::string(", \"<0x") + digits[byte / 16] + digits[byte % 16] +
             ">\": " + std::to_string(3 + byte);
  }
  vocab += R"(, "▁the": 259, "▁end": 260, "▁": 261, "a": 262, "b": 263)";
  return Tokenizer::parse(R"({"version": "1.0", "added_tokens": [
      {"id": 1, "content": "<s>", "special": true, "single_word": false, "lstrip": false,
       "rstrip": false, "normalized": false}],
    "normalizer": null, "pre_tokenizer": null, "post_processor": null,
    "decoder": {"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
      {"type": "ByteFallback"}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>",
      "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
      "byte_fallback": true, "vocab": {)" +
                              vocab + R"(}, "merges": []}})",
                          "test");
}

struct Heard {
  std::string text, given_out;
  size_t tokens = 0;
  const std::string* stop = nullptr;
};

Heard listen(const Tokenizer& tokenizer, const std::vector<int32_t>& prompt,
             const std::vector<int32_t>& response, const std::vector<std::string>& stops,
             size_t least = 0) {
  ResponseText text(tokenizer, prompt, stops);
  Heard heard;
  for (const int32_t id : response) {
    heard.given_out += text.push(id, ++heard.tokens > least);
    if (text.stop() != nullptr) break;
  }
  heard.given_out += text.finish();
  heard.text = text.text();
  heard.stop = text.stop();
  return heard;
}

TEST(ResponseText, EndsBeforeTheStopStringAtTheTokenThatCompletesIt) {
  const Tokenizer tokenizer = byte_level();
  const std::vector<std::string> stops = {"e END", "ND\n", "ätä t"};
  std::mt19937_64 random(3);
  int64_t found = 0, not_found = 0;
  for (int round = 0; round < 400; ++round) {
    std::vector<int32_t> response;
    for (int i = 0; i < 30; ++i) {
      static const std::vector<std::string> pieces = {"the", " END", "END", "\n", " t",
                                                      "ät",  "ä",    " of", "e"};
      const auto ids = tokenizer.encode(pieces[random() % pieces.size()], false);
      response.insert(response.end(), ids.begin(), ids.end());
    }
    // By the definition: the first prefix whose text holds a stop string, cut at the earliest.
    size_t tokens = 0, cut = std::string::npos;
    std::string want;
    for (tokens = 1; tokens <= response.size(); ++tokens) {
      want = tokenizer.decode({response.begin(), response.begin() + static_cast<int64_t>(tokens)},
                              true);
      for (const auto& stop : stops) cut = std::min(cut, want.find(stop));
      if (cut != std::string::npos) break;
    }
    tokens = std::min(tokens, response.size());
    const Heard heard = listen(tokenizer, {}, response, stops);
    EXPECT_EQ(heard.tokens, tokens);
    EXPECT_EQ(heard.text, want.substr(0, cut));
    EXPECT_EQ(heard.given_out, heard.text) << "what is streamed is the text, nothing more";
    EXPECT_EQ(heard.stop != nullptr, cut != std::string::npos);
    (cut == std::string::npos ? not_found : found) += 1;
  }
  EXPECT_GT(found, 100);
  EXPECT_GT(not_found, 3);
}

TEST(ResponseText, HoldsBackWhatMayBecomeAStopString) {
  const Tokenizer tokenizer = byte_level();
  const std::vector<std::string> stops = {"###"};
  ResponseText text(tokenizer, {}, stops);
  const auto push = [&](const std::string& piece) {
    std::string out;
    for (const int32_t id : tokenizer.encode(piece, false)) out += text.push(id, true);
    return out;
  };
  EXPECT_EQ(push("a"), "a");
  EXPECT_EQ(push("#"), "");
  EXPECT_EQ(push("b"), "#b");
  EXPECT_EQ(push("#"), "");
  EXPECT_EQ(text.finish(), "#");
}

TEST(ResponseText, SeesAByteTokenAtOnce) {
  const Tokenizer tokenizer = byte_fallback();
  const std::vector<int32_t> prompt = {1, 259};
  const int32_t newline = 3 + '\n';
  const Heard heard = listen(tokenizer, prompt, {260, newline, 260, 260}, {"\n"});
  EXPECT_EQ(heard.tokens, 2U) << "not one token later";
  EXPECT_EQ(heard.text, " end");
  EXPECT_EQ(heard.given_out, " end");
  // A character in bytes is whole or not there.
  const Heard umlaut = listen(tokenizer, prompt, {3 + 0xC3, 3 + 0xA4, 262}, {"xyz"});
  EXPECT_EQ(umlaut.text, "äa");
  EXPECT_EQ(umlaut.given_out, "äa");
}

TEST(ResponseText, ThePromptsLastBytesAreThePrompts) {
  const Tokenizer tokenizer = byte_fallback();
  const std::vector<int32_t> prompt = {1, 259, 3 + '\n'};
  EXPECT_EQ(listen(tokenizer, prompt, {262, 263}, {}).text, "ab");
  const Heard heard = listen(tokenizer, prompt, {262, 263}, {"\n"});
  EXPECT_EQ(heard.stop, nullptr) << "a stop string of the prompt does not end the response";
  EXPECT_EQ(heard.text, "ab");
  EXPECT_EQ(listen(tokenizer, prompt, {3 + '\n', 262}, {}).text, "\na");
  // Half a character in the prompt is completed by the response.
  EXPECT_EQ(listen(tokenizer, {1, 3 + 0xC3}, {3 + 0xA4, 262}, {}).text, "äa");
}

TEST(ResponseText, TheLeastLengthIsNotSearched) {
  const Tokenizer tokenizer = byte_fallback();
  const std::vector<int32_t> prompt = {1, 259}, response = {262, 263, 262, 263, 262};
  EXPECT_EQ(listen(tokenizer, prompt, response, {"ab"}).tokens, 2U);
  EXPECT_EQ(listen(tokenizer, prompt, response, {"ab"}, 1).tokens, 4U);
  EXPECT_EQ(listen(tokenizer, prompt, response, {"ab"}, 2).tokens, 4U);
  EXPECT_EQ(listen(tokenizer, prompt, response, {"ab"}, 2).text, "ab");
  EXPECT_EQ(listen(tokenizer, prompt, response, {"ab"}, 4).stop, nullptr);
}

}  // namespace
}  // namespace hone::engine
