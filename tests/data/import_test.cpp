// Importers: what each format becomes, and what becomes of lines and files that are wrong.

#include <gtest/gtest.h>
#include <zlib.h>

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "data/error.h"
#include "data/exchange.h"
#include "tests/data/temporary_directory.h"

namespace hone::data {
namespace {

void write_gzip(const std::filesystem::path& path, const std::string& content) {
  const gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, content.data(), static_cast<unsigned>(content.size()));
  gzclose(file);
}

class Import : public ::testing::Test {
 protected:
  ImportReport import(
      const std::string& format, const std::string& content,
      const std::function<void(ImportOptions&)>& change = [](auto&) {}) {
    const auto path = directory_ / "input.txt";
    spit(path, content);
    ImportOptions options;
    options.format = format;
    options.input = path;
    change(options);
    return import_file(store_, options);
  }
  /// The reasons by line of the side file.
  static std::map<int, std::string> reasons(const ImportReport& report) {
    std::map<int, std::string> reasons;
    std::istringstream lines(slurp(report.rejects_file));
    for (std::string line; std::getline(lines, line);) {
      const auto entry = nlohmann::json::parse(line);
      reasons[entry["line"]] = entry["reason"];
    }
    EXPECT_EQ(reasons.size(), report.rejected);
    return reasons;
  }
  void expect_counts(const ImportReport& report, uint64_t added, uint64_t duplicates,
                     uint64_t rejected) {
    EXPECT_EQ(report.added, added);
    EXPECT_EQ(report.duplicates, duplicates);
    EXPECT_EQ(report.rejected, rejected);
    EXPECT_EQ(report.lines, added + duplicates + rejected);
    EXPECT_EQ(report.rejects_file.empty(), rejected == 0);
    EXPECT_TRUE(store_.verify().empty());
  }
  void add_two_texts() {
    import("texts-jsonl", "{\"id\":\"a\",\"text\":\"A\"}\n{\"id\":\"b\",\"text\":\"B\"}\n");
  }

  TemporaryDirectory directory_;
  Store store_ = Store::open(directory_ / "store", true);
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_F(Import, Texts) {
  const ImportReport report = import(
      "texts-jsonl",
      "\xEF\xBB\xBF{\"id\":\"a\",\"text\":\"A \\u20ac\",\"prompt\":\"P\",\"group\":\"g\",\"split\":"
      "\"test\",\"source\":\"s\",\"more\":[1]}\r\n"
      "\n  \t\r\n"
      "{\"id\":7,\"text\":\"B\",\"debate\":3}\n"
      "{\"text\":\"C\",\"prompt\":[{\"role\":\"user\",\"content\":\"hi\"}]}",  // no newline at end
      [](ImportOptions& options) { options.fields["group"] = "debate"; });
  expect_counts(report, 3, 0, 0);
  const Records records = store_.read();
  ASSERT_EQ(records.items.size(), 3u);
  EXPECT_EQ(records.items[0].id, "a");
  EXPECT_EQ(records.items[0].text, "A \xe2\x82\xac");
  EXPECT_EQ(records.items[0].prompt, "P");
  EXPECT_EQ(records.items[0].split, Split::kTest);
  EXPECT_EQ(records.items[0].source, "s");
  EXPECT_EQ(records.items[1].id, "7");
  EXPECT_EQ(records.items[1].group, "3");
  EXPECT_EQ(records.items[1].source, "input");
  EXPECT_EQ(records.items[2].id.size(), 32u);
  EXPECT_TRUE(records.items[2].prompt_is_messages);
  EXPECT_EQ(records.items[2].prompt, R"([{"role":"user","content":"hi"}])");
}

TEST_F(Import, TwiceAddsNothing) {
  const std::string content =
      "{\"text\":\"A\"}\n{\"id\":\"b\",\"text\":\"B\"}\n{\"text\":\"A\"}\nbad\n";
  expect_counts(import("texts-jsonl", content), 2, 1, 1);
  const std::string hash = store_.hash();
  expect_counts(import("texts-jsonl", content), 0, 3, 1);
  EXPECT_EQ(store_.hash(), hash);
  EXPECT_EQ(store_.segments().size(), 1u);
}

TEST_F(Import, BadLinesAreListedWithTheirReason) {
  const ImportReport report =
      import("texts-jsonl",
             "{\"text\":\"good\"}\n"  // 1
             "{\"text\":\"cut\n"      // 2
             "[1,2]\n"                // 3
             "{\"id\":\"x\"}\n"       // 4
             "{\"text\":5}\n"         // 5
             "{\"text\":\"\"}\n"      // 6
             "{\"text\":\"\xff\"}\n"  // 7
             "{\"text\":\"" +
                 std::string(300, 'x') +
                 "\"}\n"                                                // 8
                 "\n"                                                   // 9, blank
                 "{\"text\":\"t\",\"split\":\"dev\"}\n"                 // 10
                 "{\"text\":\"t\",\"prompt\":{}}\n"                     // 11
                 "{\"text\":\"t\",\"prompt\":[{\"role\":\"user\"}]}\n"  // 12
                 "{\"text\":\"\\ud800\"}\n" +                           // 13
                 std::string(100, '[') +
                 "\n"                             // 14
                 "{\"id\":1.5,\"text\":\"t\"}\n"  // 15
                 "{\"text\":1e999}\n",            // 16
             [](ImportOptions& options) { options.max_line_bytes = 200; });
  expect_counts(report, 1, 0, 14);
  auto why = reasons(report);
  EXPECT_TRUE(contains(why[2], "invalid JSON")) << why[2];
  EXPECT_TRUE(contains(why[3], "JSON object")) << why[3];
  EXPECT_TRUE(contains(why[4], "text: expected a value")) << why[4];
  EXPECT_TRUE(contains(why[5], "text: expected a string, got number")) << why[5];
  EXPECT_TRUE(contains(why[6], "empty")) << why[6];
  EXPECT_TRUE(contains(why[7], "UTF-8")) << why[7];
  EXPECT_TRUE(contains(why[8], "200 bytes")) << why[8];
  EXPECT_TRUE(contains(why[10], "split")) << why[10];
  EXPECT_TRUE(contains(why[11], "prompt")) << why[11];
  EXPECT_TRUE(contains(why[12], "prompt[0].content")) << why[12];
  EXPECT_TRUE(contains(why[13], "invalid JSON")) << why[13];
  EXPECT_TRUE(contains(why[14], "32 levels")) << why[14];
  EXPECT_TRUE(contains(why[15], "id")) << why[15];
  EXPECT_TRUE(contains(why[16], "invalid JSON")) << why[16];
  EXPECT_EQ(report.rejects_file.parent_path(), store_.directory() / "rejects");
}

TEST_F(Import, OneIdTwoTextsIsRejected) {
  const auto report =
      import("texts-jsonl", "{\"id\":\"a\",\"text\":\"A\"}\n{\"id\":\"a\",\"text\":\"B\"}\n");
  expect_counts(report, 1, 0, 1);
  EXPECT_TRUE(contains(reasons(report)[2], "item a"));
}

TEST_F(Import, OneIdTwoAnswersIsRejected) {
  const std::string first = R"({"id":7,"prompt":"P","chosen":"a","rejected":"b","rater":"ann"})";
  const std::string others = R"({"id":7,"prompt":"P","chosen":"c","rejected":"b","rater":"ann"})"
                             "\n"
                             R"({"id":7,"prompt":"P","chosen":"b","rejected":"a","rater":"ann"})"
                             "\n"
                             R"({"id":7,"prompt":"P","chosen":"a","rejected":"b","rater":"ben"})"
                             "\n";
  const auto report = import("preference-jsonl", first + "\n" + others + first + "\n");
  expect_counts(report, 1, 1, 3);
  EXPECT_EQ(reasons(report)[3], "id: expected one that no other judgement has, got \"7\"");
  EXPECT_EQ(store_.read().items.size(), 2u);  // none of a rejected line
  expect_counts(import("preference-jsonl", first + "\n" + others), 0, 1, 3);  // another import

  const std::string shown = "{\"id\":\"d\",\"prompt\":\"P\",\"completion\":\"";
  expect_counts(
      import("demonstrations-jsonl", shown + "a\"}\n" + shown + "b\"}\n" + shown + "a\"}\n"), 1, 1,
      1);

  const std::string battle =
      R"({"question_id":"q","prompt":"[\"Hi\"]","response_a":"[\"A\"]","response_b":"[\"B\"]","winner":"model_)";
  expect_counts(import("arena", battle + "a\"}\n" + battle + "b\"}\n" + battle + "a\"}\n"), 1, 1,
                1);
}

TEST_F(Import, AFieldThatTheFormatHasNotIsRefused) {
  const auto with = [&](const char* format, const char* field) {
    return message_of<InputError>([&] { import(format, "{}", [&](auto& options) { options.fields[field] = "key";
    }); });
};
EXPECT_TRUE(contains(with("preference-jsonl", "raterr"), "rater, strength"));
EXPECT_TRUE(contains(with("hh", "prompt"), "expected chosen, rejected, got prompt"));
EXPECT_TRUE(contains(with("texts-jsonl", "label"), "policy_hash"));
}

TEST_F(Import, UnusableFiles) {
  for (const auto& format : import_formats()) {
    const auto fails = [&](const std::string& content) {
      return message_of<InputError>([&] { import(format.name, content); });
    };
    EXPECT_TRUE(contains(fails(""), "at least one good line"));
    EXPECT_TRUE(contains(fails("\n \n\r\n"), "at least one good line"));
    EXPECT_TRUE(contains(fails(std::string("\0\0\xff\xfe", 4)), "UTF-8"));
    EXPECT_TRUE(contains(fails("nonsense\nmore nonsense\n"), "line 1"));
    const auto at = [&](const std::filesystem::path& path) {
      return message_of<InputError>([&] { import(format.name, "", [&](auto& options) { options.input = path;
      }); });
  };
  EXPECT_TRUE(contains(at(directory_ / "none"), "no such file"));
  EXPECT_TRUE(contains(at(directory_.path()), "directory"));
}
EXPECT_TRUE(store_.segments().empty());
EXPECT_THROW(import("csv", "x"), InputError);
EXPECT_THROW(import("hh", "x", [](auto& options) { options.test_fraction = 2; }), InputError);
EXPECT_THROW(import("hh", "x", [](auto& options) { options.split = "dev"; }), InputError);
}

TEST_F(Import, Gzip) {
  std::string content;
  for (int i = 0; i < 3000; ++i) {
    content += "{\"text\":\"line " + std::to_string(i * 7919 % 3001) + "\"}\n";
  }
  const auto path = directory_ / "texts.jsonl.gz";
  write_gzip(path, content);
  const auto from = [&](auto& options) { options.input = path; };
  const std::string whole = slurp(path);
  for (const std::size_t size : {whole.size() - 1, whole.size() / 2, std::size_t{30}}) {
    spit(path, whole.substr(0, size));
    EXPECT_TRUE(contains(message_of<InputError>([&] { import("texts-jsonl", "", from); }), "gzip"))
        << size;
  }
  std::string damaged = whole;
  damaged[whole.size() / 2] ^= 0x10;
  spit(path, damaged);
  EXPECT_THROW(import("texts-jsonl", "", from), InputError);
  EXPECT_TRUE(store_.segments().empty());
  EXPECT_FALSE(std::filesystem::exists(store_.directory() / "rejects"));
  spit(path, whole);
  uint64_t calls = 0, last = 0;
  const auto report = import("texts-jsonl", "", [&](auto& options) {
    options.input = path;
    options.progress = [&](uint64_t read, uint64_t total) {
      ++calls;
      EXPECT_LE(read, total);
      EXPECT_GE(read, last);
      last = read;
      EXPECT_EQ(total, whole.size());
    };
  });
  expect_counts(report, 3000, 0, 0);
  EXPECT_GT(calls, 3u);
  EXPECT_EQ(last, whole.size());
}

TEST_F(Import, StoppedByProgressKeepsNothing) {
  std::string content;
  for (int i = 0; i < 1000; ++i) content += "{\"text\":\"line " + std::to_string(i) + "\"}\n";
  struct Stop {};
  EXPECT_THROW(
      import("texts-jsonl", content,
             [](auto& options) { options.progress = [](uint64_t, uint64_t) { throw Stop{}; }; }),
      Stop);
  EXPECT_TRUE(store_.segments().empty());
  expect_counts(import("texts-jsonl", content), 1000, 0, 0);
}

TEST_F(Import, GroupsNeverPartAndFractionsHold) {
  std::string content;
  for (int i = 0; i < 4000; ++i) {
    content +=
        "{\"text\":\"t" + std::to_string(i) + "\",\"group\":\"g" + std::to_string(i / 2) + "\"}\n";
  }
  import("texts-jsonl", content);
  std::map<std::string, std::set<Split>> splits;
  std::map<Split, int> sizes;
  for (const Item& item : store_.read().items) {
    splits[item.group].insert(item.split);
    ++sizes[item.split];
  }
  for (const auto& [group, split] : splits) EXPECT_EQ(split.size(), 1u) << group;
  EXPECT_NEAR(sizes[Split::kTest], 600, 120);  // 15 %, five standard errors of 2,000 groups
  EXPECT_NEAR(sizes[Split::kValidation], 200, 80);
}

TEST_F(Import, Ratings) {
  add_two_texts();
  const auto report = import("ratings-tsv",
                             "a\tann\t4.5\n"            // 1
                             "b\tann\t-1e2\tclarity\n"  // 2
                             "a\tann\t4.5\n"            // 3 again
                             "a\tann\t3\n"              // 4 otherwise
                             "c\tann\t1\n"              // 5 unknown
                             "a\t\t1\n"                 // 6
                             "a\tbob\tinf\n"            // 7
                             "a\tbob\tnan\n"            // 8
                             "a\tbob\t\n"               // 9
                             "a\tbob\t1x\n"             // 10
                             "a\tbob\n"                 // 11
                             "a\tbob\t1\td\te\n");      // 12
  expect_counts(report, 2, 1, 9);
  auto why = reasons(report);
  EXPECT_TRUE(contains(why[4], "earlier")) << why[4];
  EXPECT_TRUE(contains(why[5], "\"c\"")) << why[5];
  EXPECT_TRUE(contains(why[6], "rater")) << why[6];
  for (int line : {7, 8, 9, 10}) EXPECT_TRUE(contains(why[line], "finite")) << why[line];
  EXPECT_TRUE(contains(why[11], "columns")) << why[11];
  EXPECT_TRUE(contains(why[12], "columns")) << why[12];
  const Records records = store_.read();
  ASSERT_EQ(records.ratings.size(), 2u);
  EXPECT_EQ(records.ratings[1].item, 1);
  EXPECT_EQ(records.ratings[1].rater, "ann");
  EXPECT_EQ(records.ratings[1].value, -100.0);
  EXPECT_EQ(records.ratings[1].dimension, "clarity");
  EXPECT_EQ(records.ratings[1].provenance.source, "ratings-tsv:input.txt");
}

TEST_F(Import, RatingsWithAHeaderInAnyOrder) {
  add_two_texts();
  expect_counts(
      import("ratings-tsv", "worker\ttask\tlabel\tgold\r\nw1\tb\t1\t0\r\nw2\tb\t0\t0\r\n"), 2, 0,
      0);
  const Records records = store_.read();
  EXPECT_EQ(records.ratings[0].rater, "w1");
  EXPECT_EQ(records.ratings[0].item, 1);
  EXPECT_EQ(records.ratings[0].value, 1.0);
}

TEST_F(Import, Votes) {
  add_two_texts();
  const auto report = import("votes-tsv",
                             "a\tb\tann\ta1\n"                // 1
                             "a\tb\tbob\ta2\n"                // 2
                             "a\tb\tcat\tequal\n"             // 3
                             "a\tb\tann\tfirst\n"             // 4 the same as 1
                             "a\tb\t\t2\tacross-people\n"     // 5
                             "a\tb\t\t2\tacross-people\n"     // 6 another nameless vote
                             "b\ta\tdan\tbothbad\n"           // 7
                             "b\ta\teve\tskip\n"              // 8
                             "a\tb\tann\tA\n"                 // 9
                             "a\ta\tann\t1\n"                 // 10
                             "a\tc\tann\t1\n"                 // 11
                             "a\tb\tann\t1\tsame-planet\n");  // 12
  expect_counts(report, 7, 1, 4);
  const Records records = store_.read();
  ASSERT_EQ(records.comparisons.size(), 7u);
  EXPECT_EQ(records.comparisons[0].ranks, (std::vector<uint8_t>{0, 1}));
  EXPECT_EQ(records.comparisons[1].ranks, (std::vector<uint8_t>{1, 0}));
  EXPECT_EQ(records.comparisons[2].ranks, (std::vector<uint8_t>{0, 0}));
  EXPECT_EQ(records.comparisons[0].provenance.kind, "same-person");
  EXPECT_EQ(records.comparisons[3].rater, "");
  EXPECT_EQ(records.comparisons[3].provenance.kind, "across-people");
  EXPECT_EQ(records.comparisons[5].outcome, Outcome::kBothBad);
  EXPECT_EQ(records.comparisons[5].items, (std::vector<int64_t>{1, 0}));
  EXPECT_EQ(records.comparisons[6].outcome, Outcome::kSkipped);
  expect_counts(import("votes-tsv", "a\tb\t\t2\tacross-people\na\tb\t\t2\tacross-people\n"), 0, 2,
                0);
}

TEST_F(Import, VotesByPair) {
  add_two_texts();
  const auto report = import(
      "votes-tsv", "debate\tpair\tworker\tvote\n0\tb_a\tw\ta1\n0\tab\tw\ta1\n0\ta_b_a\tw\ta1\n");
  expect_counts(report, 1, 0, 2);
  EXPECT_EQ(store_.read().comparisons[0].items, (std::vector<int64_t>{1, 0}));
}

TEST_F(Import, Preferences) {
  const auto report = import(
      "preference-jsonl",
      R"({"prompt":"P","chosen":"good","rejected":"bad","strength":3,"rater":"ann","margin":0.5})"
      "\n"
      R"({"chosen":[{"role":"user","content":"Q"},{"role":"assistant","content":"yes"}],)"
      R"("rejected":[{"role":"user","content":"Q"},{"role":"assistant","content":"no"}]})"
      "\n"
      R"({"prompt":[{"role":"user","content":"Q"}],"chosen":[{"role":"assistant","content":"yes"}],)"
      R"("rejected":[{"role":"assistant","content":"no"}]})"
      "\n"  // 3 = 2
      R"({"chosen":"x","rejected":"x"})"
      "\n"  // 4
      R"({"chosen":"x"})"
      "\n"  // 5
      R"({"chosen":"x","rejected":[{"role":"assistant","content":"n"}]})"
      "\n"  // 6
      R"({"chosen":[{"role":"user","content":"Q"}],"rejected":"x"})"
      "\n"  // 7
      R"({"chosen":[],"rejected":[]})"
      "\n"  // 8
      R"({"prompt":"P","chosen":"a","rejected":"b","strength":9})"
      "\n"  // 9
      R"({"prompt":"P","chosen":[{"role":"assistant","content":"n"}],"rejected":"b"})"
      "\n"  // 10
      R"({"chosen":"plain","rejected":"other"})"
      "\n");  // 11
  expect_counts(report, 3, 1, 7);
  const Records records = store_.read();
  ASSERT_EQ(records.items.size(), 6u);  // none of a rejected line
  EXPECT_EQ(records.items[0].prompt, "P");
  EXPECT_EQ(records.items[0].text, "good");
  EXPECT_EQ(records.items[0].group, records.items[1].group);
  EXPECT_TRUE(records.items[2].prompt_is_messages);
  EXPECT_EQ(records.items[2].prompt, R"([{"role":"user","content":"Q"}])");
  EXPECT_EQ(records.items[3].text, "no");
  ASSERT_EQ(records.comparisons.size(), 3u);
  EXPECT_EQ(records.comparisons[0].strength, 3);
  EXPECT_EQ(records.comparisons[0].rater, "ann");
  EXPECT_EQ(records.comparisons[0].ranks, (std::vector<uint8_t>{0, 1}));
  EXPECT_EQ(records.items[4].prompt, "");
  EXPECT_EQ(records.items[4].split, records.items[5].split);
}

TEST_F(Import, Hh) {
  const auto pair = [](const std::string& chosen, const std::string& rejected) {
    return nlohmann::json{{"chosen", chosen}, {"rejected", rejected}}.dump() + "\n";
  };
  const std::string q = "\n\nHuman: Q\n\nAssistant:";
  const auto report = import("hh", pair(q + " yes", q + " no") +
                                       // the dialogues part before the last turn
                                       pair(q + " A\n\nAssistant: B", q + " C") +
                                       // one is the beginning of the other
                                       pair(q + " D\n\nHuman: more\n\nAssistant: E", q + " D") +
                                       pair(q + " ", q + " said") +      // an empty reply
                                       pair(q + " same", q + " same") +  // 5
                                       pair("\n\nHuman: other\n\nAssistant: x", q + " y") +  // 6
                                       pair("Human: Q\n\nAssistant: x", q + " y") +          // 7
                                       pair(q + " x\n\nHuman: end", q + " y") +              // 8
                                       pair(q + " yes", q + " no"));  // 9 = 1
  expect_counts(report, 4, 1, 4);
  const Records records = store_.read();
  ASSERT_EQ(records.comparisons.size(), 4u);
  const auto side = [&](int row, int which) -> const Item& {
    return records.items[static_cast<std::size_t>(records.comparisons[row].items[which])];
  };
  for (int row = 0; row < 4; ++row) {
    EXPECT_EQ(side(row, 0).prompt, q);
    EXPECT_EQ(side(row, 1).prompt, q);
    EXPECT_EQ(side(row, 0).group, side(0, 0).group);
    EXPECT_EQ(side(row, 0).split, side(row, 1).split);
  }
  EXPECT_EQ(side(1, 0).text, " A\n\nAssistant: B");
  EXPECT_EQ(side(1, 1).text, " C");
  EXPECT_EQ(side(2, 0).text, " D\n\nHuman: more\n\nAssistant: E");
  ASSERT_EQ(records.demonstrations.size(), 3u);
  EXPECT_EQ(records.demonstrations[0].prompt, q);
  EXPECT_EQ(records.demonstrations[0].completion, " yes");
  EXPECT_EQ(records.demonstrations[1].prompt, q + " A\n\nAssistant:");
  EXPECT_EQ(records.demonstrations[1].completion, " B");
  EXPECT_EQ(records.demonstrations[2].completion, " E");
  EXPECT_EQ(records.demonstrations[0].split, side(0, 0).split);
}

TEST_F(Import, Demonstrations) {
  const auto report = import(
      "demonstrations-jsonl",
      R"({"id":"d1","prompt":"P","completion":"C","rater":"ann","weight":0.25,"group":"g","split":"validation"})"
      "\n"
      R"({"messages":[{"role":"system","content":"S"},{"role":"user","content":"U"},{"role":"assistant","content":"A"}]})"
      "\n"
      R"({"prompt":[{"role":"user","content":"U"}],"completion":[{"role":"assistant","content":"B"}]})"
      "\n"
      R"({"id":"s","instruction":"I","instances":[{"input":"","output":"O1"},{"input":"X","output":"O2"}]})"
      "\n"
      R"({"instruction":"I","input":"Y","output":"O3"})"
      "\n"
      R"({"prompt":"P","completion":""})"
      "\n"  // 6
      R"({"messages":[{"role":"user","content":"U"}]})"
      "\n"  // 7
      R"({"instruction":"I","instances":[]})"
      "\n"  // 8
      R"({"instruction":"I","instances":[{"input":"only"}]})"
      "\n"  // 9
      R"({"prompt":"P","completion":"C","weight":-1})"
      "\n"  // 10
      R"({"prompt":"P","completion":"C","weight":"1"})"
      "\n"  // 11
      R"({"prompt":"P"})"
      "\n"  // 12
      R"({"id":"d1","prompt":"P","completion":"C"})"
      "\n");  // 13
  expect_counts(report, 5, 1, 7);
  const Records records = store_.read();
  ASSERT_EQ(records.demonstrations.size(), 6u);
  const auto& all = records.demonstrations;
  EXPECT_EQ(all[0].id, "d1");
  EXPECT_EQ(all[0].weight, 0.25);
  EXPECT_EQ(all[0].split, Split::kValidation);
  EXPECT_EQ(all[0].rater, "ann");
  EXPECT_EQ(all[1].prompt, R"([{"role":"system","content":"S"},{"role":"user","content":"U"}])");
  EXPECT_EQ(all[1].completion, "A");
  EXPECT_TRUE(all[1].prompt_is_messages);
  EXPECT_EQ(all[2].completion, "B");
  EXPECT_EQ(all[3].prompt, "I");
  EXPECT_EQ(all[4].prompt, "I\n\nX");
  EXPECT_EQ(all[4].completion, "O2");
  EXPECT_NE(all[3].id, all[4].id);
  EXPECT_EQ(all[3].group, all[5].group);
}

}  // namespace
}  // namespace hone::data
