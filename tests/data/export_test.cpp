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
    ExportFilter filter;
    filter.split = split;
    return exported(format, filter);
  }
  std::string text(const std::string& format, const ExportFilter& filter = {}) {
    export_file(store_, format, directory_ / "out.txt", filter);
    return slurp(directory_ / "out.txt");
  }
  std::vector<json> exported(const std::string& format, const ExportFilter& filter) {
    const auto path = directory_ / "out.jsonl";
    const uint64_t count = export_file(store_, format, path, filter);
    std::istringstream lines(slurp(path));
    std::vector<json> all;
    for (std::string line; std::getline(lines, line);) all.push_back(json::parse(line));
    EXPECT_EQ(all.size(), count);
    return all;
  }

  static Item full_item_with_tab() {
    Item item;
    item.id = "x\ty";
    return item;
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

TEST_F(Export, KtoLabelsTheBestAndTheWorst) {
  StoreWriter writer(store_);
  const std::string hi = R"([{"role":"user","content":"hi"}])";
  const int64_t a = item(writer, "P", "a"), b = item(writer, "P", "b"), c = item(writer, "P", "c");
  const int64_t d = item(writer, hi, "d", true), e = item(writer, hi, "e", true);
  compare(writer, {a, b, c}, {1, 0, 2});
  compare(writer, {a, b}, {0, 0});
  compare(writer, {a, b}, {}, Outcome::kBothBad);
  compare(writer, {a, b}, {}, Outcome::kSkipped);
  compare(writer, {d, e}, {1, 0});
  writer.seal();
  const auto line = [](const char* completion, bool label) {
    return json{{"prompt", "P"}, {"completion", completion}, {"label", label}};
  };
  const auto lines = exported("trl-kto");
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_EQ(lines[0], line("b", true));
  EXPECT_EQ(lines[1], line("c", false));
  EXPECT_EQ(lines[2], line("a", false));
  EXPECT_EQ(lines[3], line("b", false));
  EXPECT_EQ(lines[4]["prompt"], json::parse(hi));
  EXPECT_EQ(lines[4]["completion"], json::parse(R"([{"role":"assistant","content":"d"}])"));
  EXPECT_EQ(lines[4]["label"], false);
  EXPECT_EQ(lines[5]["label"], true);
}

TEST_F(Export, Transcripts) {
  StoreWriter writer(store_);
  const std::string q = "\n\nHuman: Q\n\nAssistant:";
  const std::string chat =
      R"([{"role":"system","content":"Be kind."},{"role":"user","content":"hi"},{"role":"assistant","content":"x"},{"role":"user","content":"y"}])";
  compare(writer, {item(writer, q, " a"), item(writer, q, " b\n\nAssistant: c")}, {1, 0});
  compare(writer, {item(writer, "P", "a"), item(writer, "P", "b")}, {0, 1});
  compare(writer, {item(writer, chat, "a", true), item(writer, chat, "b", true)}, {0, 1});
  writer.seal();
  const auto lines = exported("hh");
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0], (json{{"chosen", q + " b\n\nAssistant: c"}, {"rejected", q + " a"}}));
  EXPECT_EQ(lines[1]["chosen"], "\n\nHuman: P\n\nAssistant: a");
  EXPECT_EQ(lines[2]["rejected"],
            "\n\nHuman: Be kind.\n\nhi\n\nAssistant: x\n\nHuman: y\n\nAssistant: b");
  const auto bench = exported("rewardbench");
  ASSERT_EQ(bench.size(), 3u);
  EXPECT_EQ(bench[1], (json{{"id", 1},
                            {"prompt", "P"},
                            {"chosen", "a"},
                            {"chosen_model", "unknown"},
                            {"rejected", "b"},
                            {"rejected_model", "unknown"},
                            {"subset", ""}}));
  EXPECT_EQ(bench[2]["prompt"],
            "\n\nHuman: Be kind.\n\nhi\n\nAssistant: x\n\nHuman: y\n\nAssistant:");
}

TEST_F(Export, CsvIsSafeInSpreadsheets) {
  StoreWriter writer(store_);
  const int64_t a = item(writer, "=HYPERLINK(\"http://evil\")", "+1"), b = item(writer, "", "ok");
  Comparison comparison;
  comparison.id = "@SUM(1)";
  comparison.items = {a, b};
  comparison.ranks = {1, 0};
  comparison.shown = {1, 0};
  comparison.rater = "-2+3";
  comparison.rationale = "a \"quote\",\nnext";
  comparison.strength = 2;
  comparison.provenance.answered_us = 1764100200000000;
  comparison.provenance.source = "\tcollect";
  writer.add_comparison(comparison);
  Rating rating;
  rating.item = b;
  rating.rater =
      "\xEF\xBC\x9D"
      "1";  // full-width =
  rating.value = -1.5;
  writer.add_rating(rating);
  writer.seal();
  EXPECT_EQ(text("csv"),
            "kind,id,rater,source,answered,outcome,rank,shown,strength,dimension,value,item,prompt,"
            "answer,rationale,skip_reason\r\n"
            "pairwise,\"'@SUM(1)\",\"'-2+3\",\"'\tcollect\",2025-11-25T19:50:00Z,ordered,2,2,2,,,"
            "\"'=HYPERLINK(\"\"http://evil\"\")/+1\",\"'=HYPERLINK(\"\"http://evil\"\")\",\"'+1\","
            "\"a \"\"quote\"\",\nnext\",\r\n"
            "pairwise,\"'@SUM(1)\",\"'-2+3\",\"'\tcollect\",2025-11-25T19:50:00Z,ordered,1,1,2,,,"
            "/ok,,ok,\"a \"\"quote\"\",\nnext\",\r\n"
            "rating,,\"'\xEF\xBC\x9D"
            "1\",,,,,,,,-1.5,/ok,,ok,,\r\n");
}

TEST_F(Export, Filters) {
  StoreWriter writer(store_);
  const int64_t a = item(writer, "P", "a"), b = item(writer, "P", "b"), c = item(writer, "P", "c");
  const auto add = [&](std::vector<int64_t> items, const char* rater, int64_t time,
                       const char* source, const char* people, const char* supersedes = "") {
    Comparison comparison;
    comparison.id = std::to_string(count_++);
    for (std::size_t i = 0; i < items.size(); ++i) {
      comparison.ranks.push_back(static_cast<uint8_t>(i));
    }
    comparison.items = std::move(items);
    comparison.rater = rater;
    comparison.provenance.answered_us = time;
    comparison.provenance.source = source;
    comparison.provenance.kind = people;
    comparison.provenance.supersedes = supersedes;
    writer.add_comparison(comparison);
  };
  add({a, b}, "ann", 100, "collect", "same-person");
  add({a, b, c}, "bob", 200, "collect", "same-person");
  writer.seal();
  add({b, c}, "cat", 0, "votes", "across-people");
  add({c, a}, "ann", 300, "collect", "same-person", "0");
  writer.seal();
  const auto count = [&](auto change) {
    ExportFilter filter;
    change(filter);
    return exported("trl-preference", filter).size();
  };
  EXPECT_EQ(count([](auto&) {}), 5u);  // the first is superseded; three items make three pairs
  EXPECT_EQ(count([](auto& f) { f.raters = {"ann"}; }), 1u);
  EXPECT_EQ(count([](auto& f) { f.raters = {"ann", "bob"}; }), 4u);
  EXPECT_EQ(count([](auto& f) { f.source = "votes"; }), 1u);
  EXPECT_EQ(count([](auto& f) { f.kinds = {"pairwise"}; }), 2u);
  EXPECT_EQ(count([](auto& f) { f.kinds = {"ranking"}; }), 3u);
  EXPECT_EQ(count([](auto& f) { f.kinds = {"ranking", "across-people"}; }), 4u);
  EXPECT_EQ(count([](auto& f) { f.kinds = {"rating"}; }), 0u);
  EXPECT_EQ(count([](auto& f) { f.since_us = 200; }), 4u);
  EXPECT_EQ(count([](auto& f) { f.until_us = 300; }), 3u);
  EXPECT_EQ(count([](auto& f) { f.since_us = 201, f.until_us = 300; }), 0u);
  EXPECT_EQ(count([](auto& f) { f.source = "collect", f.kinds = {"pairwise"}; }), 1u);
  EXPECT_THROW(count([](auto& f) { f.kinds = {"video"}; }), InputError);
  EXPECT_EQ(parse_time("1970-01-02", ""), 86400000000);
  EXPECT_EQ(parse_time("2025-11-25T19:50:00Z", ""), 1764100200000000);
  EXPECT_EQ(parse_time("2025-11-25T19:50", ""), 1764100200000000);
  for (const char* bad :
       {"", "today", "2025-13-01", "2025-02-30", "2025-01-01T25:00", "2025-01-01x"}) {
    EXPECT_NE(message_of<InputError>([&] { parse_time(bad, "--since"); }).find("--since"),
              std::string::npos)
        << bad;
  }
}

TEST_F(Export, TsvFilesComeBackTheSame) {
  StoreWriter writer(store_);
  const int64_t a = item(writer, "P", "a"), b = item(writer, "P", "b");
  compare(writer, {a, b}, {0, 1});
  compare(writer, {b, a}, {0, 0});
  compare(writer, {a, b}, {}, Outcome::kBothBad);
  compare(writer, {a, b}, {}, Outcome::kSkipped);
  Rating rating;
  rating.item = b;
  rating.rater = "ann";
  rating.value = 0.1;
  writer.add_rating(rating);
  writer.seal();
  EXPECT_EQ(text("votes-tsv"),
            "item1\titem2\trater\toutcome\tkind\n"
            "P/a\tP/b\t\tfirst\t\nP/b\tP/a\t\ttie\t\nP/a\tP/b\t\tbothbad\t\nP/a\tP/b\t\tskip\t\n");
  EXPECT_EQ(text("ratings-tsv"), "item\trater\tvalue\tdimension\nP/b\tann\t0.1\t\n");
  writer.add_item(full_item_with_tab());
  compare(writer, {a, writer.find_item("x\ty")}, {0, 1});
  writer.seal();
  EXPECT_THROW(text("votes-tsv"), InputError);
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
