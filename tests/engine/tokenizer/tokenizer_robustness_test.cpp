// Damaged files: reading gives an InputError or a tokenizer that works, never a crash. Meant for
// the sanitizer build (-DHONE_SANITIZE=address,undefined), where any bad access ends the test.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "data/error.h"
#include "engine/tokenizer/tokenizer.h"

namespace hone::engine {
namespace {

using nlohmann::json;

std::string small_tokenizer() {
  BpeTrainerOptions options;
  options.vocab_size = 270;
  json file = json::parse(train_byte_level_bpe({"the film the end then"}, options));
  file.merge_patch(json::parse(R"json({
    "normalizer": {"type": "Sequence", "normalizers": [
      {"type": "NFC"},
      {"type": "Replace", "pattern": {"Regex": "x+"}, "content": "y"},
      {"type": "Strip", "strip_left": true, "strip_right": false}]},
    "decoder": {"type": "Sequence", "decoders": [
      {"type": "ByteLevel"},
      {"type": "Metaspace", "prepend_scheme": "first"},
      {"type": "ByteFallback"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 1}]}})json"));
  file["pre_tokenizer"] = json::parse(R"json(
    {"type": "Sequence", "pretokenizers": [
      {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex":
        "(?i:'s|'t)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|\\s+(?!\\S)|\\s+"}},
      {"type": "Digits", "individual_digits": true},
      {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first"},
      {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})json");
  file["added_tokens"].push_back(json::parse(R"({"id": 0, "content": "[TAG]", "lstrip": true,
    "rstrip": true, "single_word": true, "normalized": true, "special": false})"));
  file["added_tokens"].back()["id"] = file["model"]["vocab"].size();
  return file.dump();
}

// What a tokenizer must survive once it has been accepted.
void use(const Tokenizer& tokenizer) {
  static const std::string kTexts[] = {"",
                                       " ",
                                       "the film's end 123 [TAG]  <eos>xx",
                                       "\u00e9\u2581\U0001F600 e\u0301\u4f60",
                                       std::string("\0\xFF\x80", 3),
                                       std::string(200, 'a') + std::string(100, ' ')};
  for (const std::string& text : kTexts) {
    const std::vector<int32_t> ids = tokenizer.encode(text, true);
    StreamDecoder stream(tokenizer);
    for (const int32_t id : ids) {
      ASSERT_GE(id, 0);
      ASSERT_LT(id, tokenizer.vocab_size());
      stream.push(id);
    }
    stream.finish();
    tokenizer.decode(ids, true);
  }
}

bool survives(const std::string& text) {
  try {
    use(Tokenizer::parse(text, "damaged"));
    return true;
  } catch (const data::InputError& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return false;
  }
}

TEST(TokenizerRobustness, SurvivesDamagedBytes) {
  const std::string whole = small_tokenizer();
  ASSERT_TRUE(survives(whole));
  std::mt19937 random(11);
  // Half of the damage goes where the structure is, not into the vocabulary.
  const size_t vocab_begin = whole.find("\"vocab\"");
  int accepted = 0;
  for (int round = 0; round < 1500; ++round) {
    std::string damaged = whole;
    for (size_t i = 1 + random() % 3; i > 0; --i) {
      constexpr char kBytes[] = "0123456789-,:[]{}\"\\.etrufalsn";
      const size_t at = random() % (random() % 2 ? damaged.size() : vocab_begin);
      damaged[at] =
          random() % 4 ? kBytes[random() % (sizeof kBytes - 1)] : static_cast<char>(random());
    }
    if (random() % 8 == 0) damaged.resize(random() % damaged.size());
    accepted += survives(damaged);
  }
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, 1400);
}

// Values of the wrong kind, and values from elsewhere in the file, in every place.
TEST(TokenizerRobustness, SurvivesExchangedValues) {
  const json whole = json::parse(small_tokenizer());
  std::vector<std::string> places;
  const json flat = whole.flatten();
  for (const auto& [place, value] : flat.items()) {
    for (std::string at = place; !at.empty(); at.resize(at.rfind('/'))) {
      if (places.empty() || places.back() != at) places.push_back(at);
    }
  }
  const json odd = json::parse(R"json([null, true, -1, 0, 1, 300, 2147483647, 1e300, "", "a",
    "\u2581", "(", "[^\\s]+", "Sequence", [], {}, 18446744073709551615, [1, "a"],
    {"type": "BPE"}])json");
  std::mt19937 random(12);
  int accepted = 0;
  for (int round = 0; round < 1500; ++round) {
    json damaged = whole;
    const json::json_pointer place(places[random() % places.size()]);
    damaged[place] = random() % 2 ? odd[random() % odd.size()]
                                  : whole[json::json_pointer(places[random() % places.size()])];
    accepted += survives(damaged.dump());
  }
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, 1400);
}

TEST(TokenizerRobustness, RefusesAbsurdFiles) {
  for (const std::string& text :
       {std::string(), std::string("{}"), std::string("null"), std::string("[]"),
        std::string(1'000'000, '['), std::string(1'000'000, '{'), std::string(100, '\0'),
        std::string("{\"model\":{\"vocab\":{},\"merges\":[[\"\",\"\"]]}}")}) {
    EXPECT_FALSE(survives(text)) << text.substr(0, 40);
  }
  std::string nested = "{\"type\":\"NFC\"}";
  for (int i = 0; i < 30; ++i) nested = "{\"type\":\"Sequence\",\"normalizers\":[" + nested + "]}";
  EXPECT_FALSE(survives("{\"model\":{\"vocab\":{},\"merges\":[]},\"normalizer\":" + nested + "}"));
  // Nothing in it, but whole: no text has any token.
  EXPECT_TRUE(survives("{\"model\":{\"vocab\":{},\"merges\":[]}}"));
  EXPECT_THROW(Tokenizer::load("/nonexistent"), data::InputError);
}

// A split pattern whose work explodes ends with an error, not with the day.
TEST(TokenizerRobustness, BoundsTheWorkOfPatterns) {
  json file = json::parse(small_tokenizer());
  file["normalizer"] = nullptr;
  file["pre_tokenizer"] = json::parse(
      R"({"type": "Split", "pattern": {"Regex": "(?:(?:a+)+)+$|(a|aa)+b"},
          "behavior": "Isolated"})");
  const Tokenizer tokenizer = Tokenizer::parse(file.dump(), "explosive");
  EXPECT_THROW(tokenizer.encode(std::string(60, 'a') + "c", false), data::InputError);
}

}  // namespace
}  // namespace hone::engine
