// Exports: what TRL reads, pair by pair.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "data/error.h"
#include "data/exchange.h"
#include "tests/data/temporary_directory.h"

namespace hone::data {
namespace {

using nlohmann::json;

class Export : public ::testing::Test {
 protected:
  int64_t item(StoreWriter& writer, const std::string& prompt, const std::string& text,
               bool messages = false, Split split = Split::kTrain) {
    return writer.add_item({.id = prompt + "/" + text,
                            .prompt = prompt,
                            .text = text,
                            .prompt_is_messages = messages,
                            .group = "",
                            .split = split,
                            .source = "",
                            .policy_hash = ""});
  }
  void compare(StoreWriter& writer, std::vector<int64_t> items, std::vector<uint8_t> ranks,
               Outcome outcome = Outcome::kOrdered) {
    Comparison comparison;
    comparison.id = std::to_string(count_++);
    comparison.items = std::move(items);
    comparison.ranks = std::move(ranks);
    comparison.outcome = outcome;
    writer.add_comparison(comparison);
  }
  std::vector<json> exported(const std::string& format, const std::string& split = "") {
    const auto path = directory_ / "out.jsonl";
    ExportFilter filter;
    filter.split = split;
    const uint64_t count = export_file(store_, format, path, filter);
    std::istringstream lines(slurp(path));
    std::vector<json> all;
    for (std::string line; std::getline(lines, line);) all.push_back(json::parse(line));
    EXPECT_EQ(all.size(), count);
    return all;
  }

  TemporaryDirectory directory_;
  Store store_ = Store::open(directory_ / "store", true);
  int count_ = 0;
};

TEST_F(Export, PairsOfRankings) {
  StoreWriter writer(store_);
  const int64_t a = item(writer, "P", "a"), b = item(writer, "P", "b"), c = item(writer, "P", "c");
  compare(writer, {b, a}, {1, 0});
  compare(writer, {a, b, c}, {0, 1, 1});
  compare(writer, {a, b}, {0, 0});
  compare(writer, {a, c}, {}, Outcome::kBothBad);
  compare(writer, {a, c}, {}, Outcome::kSkipped);
  writer.seal();
  const auto pair = [](const char* chosen, const char* rejected) {
    return json{{"prompt", "P"}, {"chosen", chosen}, {"rejected", rejected}};
  };
  EXPECT_EQ(exported("trl-preference"),
            (std::vector<json>{pair("a", "b"), pair("a", "b"), pair("a", "c")}));
}

TEST_F(Export, DifferentPromptsAndMessages) {
  StoreWriter writer(store_);
  const int64_t a = item(writer, "P ", "a"), b = item(writer, "Q ", "b");
  const std::string hi = R"([{"role":"user","content":"hi"}])";
  const std::string more =
      R"([{"role":"user","content":"hi"},{"role":"assistant","content":"x"},{"role":"user","content":"y"}])";
  const int64_t c = item(writer, hi, "c", true), d = item(writer, hi, "d", true);
  const int64_t e = item(writer, more, "e", true);
  compare(writer, {a, b}, {0, 1});
  compare(writer, {c, d}, {0, 1});
  compare(writer, {c, e}, {1, 0});
  writer.seal();
  const auto says = [](const char* role, const char* text) {
    return json{{"role", role}, {"content", text}};
  };
  const auto lines = exported("trl-preference");
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0], (json{{"prompt", ""}, {"chosen", "P a"}, {"rejected", "Q b"}}));
  EXPECT_EQ(lines[1]["prompt"], json::array({says("user", "hi")}));
  EXPECT_EQ(lines[1]["chosen"], json::array({says("assistant", "c")}));
  EXPECT_EQ(lines[1]["rejected"], json::array({says("assistant", "d")}));
  EXPECT_EQ(lines[2]["prompt"], json::array({says("user", "hi")}));
  EXPECT_EQ(lines[2]["chosen"],
            json::array({says("assistant", "x"), says("user", "y"), says("assistant", "e")}));
  EXPECT_EQ(lines[2]["rejected"], json::array({says("assistant", "c")}));
}

TEST_F(Export, OneSplit) {
  StoreWriter writer(store_);
  const int64_t a = item(writer, "P", "a"), b = item(writer, "P", "b");
  const int64_t c = item(writer, "P", "c", false, Split::kTest);
  const int64_t d = item(writer, "P", "d", false, Split::kTest);
  compare(writer, {a, b}, {0, 1});
  compare(writer, {c, d}, {0, 1});
  compare(writer, {a, d}, {0, 1});
  writer.seal();
  EXPECT_EQ(exported("trl-preference").size(), 3u);
  EXPECT_EQ(exported("trl-preference", "test").size(), 1u);
  EXPECT_EQ(exported("trl-preference", "validation").size(), 0u);
  EXPECT_THROW(exported("trl-preference", "dev"), InputError);
}

TEST_F(Export, Demonstrations) {
  StoreWriter writer(store_);
  Demonstration plain, messages;
  plain.id = "1";
  plain.prompt = "P";
  plain.completion = "C\n\"\xe2\x82\xac";
  messages.id = "2";
  messages.prompt = R"([{"role":"user","content":"hi"}])";
  messages.prompt_is_messages = true;
  messages.completion = "ho";
  writer.add_demonstration(plain);
  writer.add_demonstration(messages);
  writer.seal();
  const auto lines = exported("trl-sft");
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0], (json{{"prompt", "P"}, {"completion", "C\n\"\xe2\x82\xac"}}));
  EXPECT_EQ(lines[1]["prompt"], json::parse(R"([{"role":"user","content":"hi"}])"));
  EXPECT_EQ(lines[1]["completion"], json::parse(R"([{"role":"assistant","content":"ho"}])"));
}

TEST_F(Export, RefusesWhatItCannotDo) {
  EXPECT_NE(message_of<InputError>([&] { exported("xml"); }).find("trl-sft"), std::string::npos);
  EXPECT_THROW(export_file(store_, "trl-sft", directory_ / "no/such/file"), IoError);
  StoreWriter writer(store_);
  const int64_t a = item(writer, "not messages", "a", true), b = item(writer, "P", "b");
  compare(writer, {a, b}, {0, 1});
  writer.seal();
  spit(directory_ / "out.jsonl", "before");
  EXPECT_THROW(export_file(store_, "trl-preference", directory_ / "out.jsonl"), CorruptError);
  EXPECT_EQ(slurp(directory_ / "out.jsonl"), "before");
}

}  // namespace
}  // namespace hone::data
