// Exports of annotation tools: Argilla, Label Studio, Open-Assistant, Chatbot Arena. The fixtures
// are written by hand to the formats that these tools write.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "data/error.h"
#include "data/exchange.h"
#include "data/importers/annotation.h"
#include "tests/data/temporary_directory.h"

namespace hone::data {
namespace {

using nlohmann::json;
using Ranks = std::vector<uint8_t>;

class AnnotationImport : public ::testing::Test {
 protected:
  ImportReport import(const std::string& format, const std::string& content,
                      const std::map<std::string, std::string>& fields = {}) {
    const auto path = directory_ / "export.json";
    spit(path, content);
    ImportOptions options;
    options.format = format;
    options.input = path;
    options.fields = fields;
    const ImportReport report = import_file(store_, options);
    EXPECT_TRUE(store_.verify().empty());
    return report;
  }
  /// A second time it adds nothing.
  ImportReport import_twice(const std::string& format, const std::string& content) {
    const ImportReport report = import(format, content);
    const ImportReport again = import(format, content);
    EXPECT_EQ(again.added, 0u);
    EXPECT_EQ(again.duplicates, report.added + report.duplicates);
    return report;
  }
  std::vector<std::string> texts(const Comparison& comparison, const Records& records) {
    std::vector<std::string> result;
    for (const int64_t item : comparison.items) {
      result.push_back(records.items[static_cast<std::size_t>(item)].text);
    }
    return result;
  }
  std::vector<json> side_file(const ImportReport& report) {
    std::vector<json> entries;
    std::istringstream lines(slurp(report.rejects_file));
    for (std::string line; std::getline(lines, line);) entries.push_back(json::parse(line));
    return entries;
  }

  TemporaryDirectory directory_;
  Store store_ = Store::open(directory_ / "store", true);
};

TEST_F(AnnotationImport, ArgillaNested) {
  const std::string record = R"({
    "id": "r1", "fields": {"prompt": "Name a colour.", "reply-1": "Blue.", "reply-2": "Seven.",
                           "reply-3": "Red, say."},
    "metadata": {"n": 1}, "vectors": {}, "_server_id": "x",
    "suggestions": {"preference": {"value": "reply-2", "score": 0.9, "agent": "a model"}},
    "responses": {
      "preference": [{"value": ["reply-3", "reply-1", "reply-2"], "user_id": "u1"},
                     {"value": [{"value": "reply-1", "rank": 1}, {"value": "reply-3", "rank": 1},
                                {"value": "reply-2", "rank": 3}], "user_id": "u2"}],
      "best": [{"value": "reply-1", "user_id": "u1"}],
      "comment": [{"value": "colours only", "user_id": "u1"}],
      "quality-2": [{"value": 1, "user_id": "u1"}],
      "topic_reply-1": [{"value": ["colour", "short"], "user_id": "u1"}],
      "improve": [{"value": "Blue, like the sky on a clear day in June.", "user_id": "u3"}],
      "overall": [{"value": 4, "user_id": "u1"}]
    }})";
  const ImportReport report = import_twice("argilla", "[" + record + "]");
  EXPECT_EQ(report.lines, 1u);
  EXPECT_EQ(report.added, 1u);
  EXPECT_EQ(report.partial, 1u);
  const auto entries = side_file(report);
  ASSERT_EQ(entries.size(), 1u);  // "overall" of three texts says nothing of any
  EXPECT_EQ(entries[0]["line"], 1);
  EXPECT_EQ(entries[0]["part"], true);
  EXPECT_NE(entries[0]["reason"].get<std::string>().find("overall"), std::string::npos);

  const Records records = store_.read();
  ASSERT_EQ(records.items.size(), 3u);
  EXPECT_EQ(records.items[0].prompt, "Name a colour.");
  EXPECT_EQ(records.items[0].group, records.items[2].group);
  ASSERT_EQ(records.comparisons.size(), 3u);
  const auto of = [&](const std::string& rater, std::size_t k) {
    for (const Comparison& one : records.comparisons) {
      if (one.rater == rater && (one.ranks == Ranks{0, 1, 1}) == (k == 1)) return one;
    }
    return Comparison{};
  };
  EXPECT_EQ(texts(of("u1", 3), records),
            (std::vector<std::string>{"Red, say.", "Blue.", "Seven."}));
  EXPECT_EQ(of("u1", 3).ranks, (Ranks{0, 1, 2}));
  EXPECT_EQ(of("u1", 3).rationale, "colours only");
  EXPECT_EQ(of("u2", 3).ranks, (Ranks{0, 0, 1}));
  EXPECT_EQ(of("u2", 3).rationale, "");
  EXPECT_EQ(texts(of("u1", 1), records)[0], "Blue.");
  ASSERT_EQ(records.ratings.size(), 3u);
  std::map<std::string, std::pair<std::string, double>> ratings;
  for (const Rating& one : records.ratings) {
    ratings[one.dimension] = {records.items[static_cast<std::size_t>(one.item)].text, one.value};
  }
  EXPECT_EQ(ratings["quality-2"], std::pair(std::string("Seven."), 1.0));
  EXPECT_EQ(ratings["topic_reply-1:colour"], std::pair(std::string("Blue."), 1.0));
  ASSERT_EQ(records.demonstrations.size(), 1u);
  EXPECT_EQ(records.demonstrations[0].prompt, "Name a colour.");
  EXPECT_EQ(records.demonstrations[0].rater, "u3");
}

TEST_F(AnnotationImport, ArgillaFlatLinesAndChatFields) {
  const ImportReport report = import_twice(
      "argilla",
      R"({"id":"1","status":"completed","chat":[{"role":"user","content":"Hi"}],"a":"Hello","b":"No","score":null,"best.responses":["b","tie","a"],"best.responses.users":["u1","u2","u3"],"best.responses.status":["submitted","submitted","discarded"],"best.suggestion":"a","best.suggestion.agent":"m"})"
      "\n"
      R"({"id":"2","chat":[{"role":"user","content":"Hi"}],"a":5,"b":[]})"
      "\n"
      R"({"id":"3","fields":{"text":"only one"},"responses":{"stars":[{"value":5,"user_id":"u1","status":"submitted"},{"value":1,"user_id":"u2","status":"draft"}],"x":[{"value":{"a":1},"user_id":"u"}]}})"
      "\n"
      R"({"id":"4","fields":[],"responses":{}})"
      "\n");
  EXPECT_EQ(report.lines, 4u);
  EXPECT_EQ(report.rejected, 1u);
  const Records records = store_.read();
  ASSERT_EQ(records.comparisons.size(), 2u);
  EXPECT_EQ(records.comparisons[0].ranks, (Ranks{1, 0}));
  EXPECT_EQ(records.comparisons[1].ranks, (Ranks{0, 0}));
  EXPECT_EQ(records.comparisons[1].rater, "u2");
  EXPECT_EQ(records.items[0].prompt, R"([{"role":"user","content":"Hi"}])");
  ASSERT_EQ(records.ratings.size(), 1u);
  EXPECT_EQ(records.ratings[0].value, 5);
}

TEST_F(AnnotationImport, LabelStudio) {
  // Printed over lines, as the tool's button writes it.
  const ImportReport report = import_twice("label-studio", R"([
  {"id": 1, "data": {"prompt": "Hi", "text1": "Hello", "text2": "No"},
   "annotations": [
     {"id": 11, "completed_by": 7, "created_at": "2021-03-09T22:16:08.728353Z", "lead_time": 4.25,
      "was_cancelled": false, "ground_truth": false, "result": [
        {"type": "pairwise", "from_name": "pw", "to_name": "text1,text2", "value": {"selected": "right"}},
        {"type": "textarea", "from_name": "reason", "to_name": "text1", "value": {"text": ["short", "clear"]}},
        {"type": "rating", "from_name": "fluency", "to_name": "text2", "value": {"rating": 4}}]},
     {"id": 12, "completed_by": {"id": 8, "email": "someone@example.org"}, "was_cancelled": true, "result": []},
     {"id": 13, "completed_by": {"id": 9, "email": "other@example.org"}, "created_at": "2021-03-10T00:16:08+02:00", "result": [
        {"type": "choices", "from_name": "which", "to_name": "text1", "value": {"choices": ["Both bad"]}},
        {"type": "choices", "from_name": "tone", "to_name": "text1", "value": {"choices": ["rude"]}},
        {"type": "textarea", "from_name": "better", "to_name": "text1", "value": {"text": ["Hello there!"]}},
        {"type": "rectanglelabels", "from_name": "box", "to_name": "img", "value": {"x": 1}}]}],
   "predictions": [{"result": [{"type": "pairwise", "value": {"selected": "left"}}]}]},
  {"id": 2, "data": {"prompt": "Rank", "items": [{"id": "x", "title": "X", "body": "text x"},
                                               {"id": "y", "title": "Y", "body": "text y"},
                                               {"id": "z", "body": "text z"}]},
   "annotations": [
     {"completed_by": 7, "result": [{"type": "ranker", "from_name": "rank", "to_name": "rank", "value": {"ranker": ["z", "x", "y"]}}]},
     {"completed_by": 8, "result": [{"type": "ranker", "from_name": "rank", "to_name": "rank", "value": {"ranker": {"_": ["y"], "good": ["x", "z"]}}}]},
     {"completed_by": 9, "result": [{"type": "ranker", "from_name": "rank", "to_name": "rank", "value": {"ranker": {"bad": ["y"], "good": ["x"]}}}]}]},
  "not a task",
  {"id": 3, "annotations": []}
])");
  EXPECT_EQ(report.lines, 4u);
  EXPECT_EQ(report.added, 2u);
  EXPECT_EQ(report.rejected, 2u);
  EXPECT_EQ(report.partial, 2u);
  const auto entries = side_file(report);
  ASSERT_EQ(entries.size(), 4u);
  EXPECT_NE(entries[0]["reason"].get<std::string>().find("rectanglelabels"), std::string::npos);
  EXPECT_NE(entries[1]["reason"].get<std::string>().find("buckets"), std::string::npos);
  EXPECT_EQ(entries[2]["line"], 3);
  EXPECT_EQ(entries[3]["line"], 4);
  const Records records = store_.read();
  std::map<std::string, std::vector<Comparison>> by_rater;
  for (const Comparison& one : records.comparisons) by_rater[one.rater].push_back(one);
  ASSERT_EQ(by_rater["7"].size(), 2u);
  const Comparison& pair = by_rater["7"][0];
  EXPECT_EQ(texts(pair, records), (std::vector<std::string>{"Hello", "No"}));
  EXPECT_EQ(pair.ranks, (Ranks{1, 0}));
  EXPECT_EQ(pair.shown, (Ranks{0, 1}));
  EXPECT_EQ(pair.rationale, "short\nclear");
  EXPECT_EQ(pair.provenance.answered_us, 1615328168728353);  // date -d 2021-03-09T22:16:08Z +%s
  EXPECT_EQ(pair.provenance.served_us, 1615328168728353 - 4250000);
  EXPECT_EQ(texts(by_rater["7"][1], records),
            (std::vector<std::string>{"text z", "text x", "text y"}));
  EXPECT_EQ(by_rater["7"][1].ranks, (Ranks{0, 1, 2}));
  ASSERT_EQ(by_rater["8"].size(), 2u);
  EXPECT_EQ(by_rater["8"][0].outcome, Outcome::kSkipped);
  EXPECT_EQ(texts(by_rater["8"][1], records), (std::vector<std::string>{"text x", "text z"}));
  ASSERT_EQ(by_rater["9"].size(), 1u);
  EXPECT_EQ(by_rater["9"][0].outcome, Outcome::kBothBad);
  EXPECT_EQ(by_rater["9"][0].provenance.answered_us, 1615328168000000);
  ASSERT_EQ(records.ratings.size(), 2u);
  EXPECT_EQ(records.ratings[0].dimension, "fluency");
  EXPECT_EQ(records.ratings[0].value, 4);
  EXPECT_EQ(records.items[static_cast<std::size_t>(records.ratings[0].item)].text, "No");
  EXPECT_EQ(records.ratings[1].dimension, "tone:rude");
  ASSERT_EQ(records.demonstrations.size(), 1u);
  EXPECT_EQ(records.demonstrations[0].completion, "Hello there!");
  for (const auto& entry : std::filesystem::recursive_directory_iterator(store_.directory())) {
    if (entry.is_regular_file()) {  // an address is not a pseudonym
      EXPECT_EQ(slurp(entry.path()).find("example.org"), std::string::npos) << entry.path();
    }
  }
}

TEST_F(AnnotationImport, LabelStudioSidesByOption) {
  const std::string task =
      R"([{"data":{"q":"Hi","one":"Hello","two":"No","three":"?"},"annotations":[{"completed_by":1,"result":[{"type":"pairwise","from_name":"p","to_name":"t1,t2","value":{"selected":"left"}}]}]}])";
  const auto report = import("label-studio", task);
  EXPECT_EQ(report.partial, 1u);
  import("label-studio", task, {{"prompt", "q"}, {"left", "two"}, { "right", "one" }});
  const Records records = store_.read();
  ASSERT_EQ(records.comparisons.size(), 1u);
  EXPECT_EQ(texts(records.comparisons[0], records), (std::vector<std::string>{"No", "Hello"}));
}

constexpr const char* kTree =
    R"({"message_tree_id":"t","tree_state":"ready_for_export","prompt":{"message_id":"t","text":"Why?","role":"prompter","lang":"en","user_id":"asker","review_result":true,"replies":[)"
    R"({"message_id":"a","parent_id":"t","text":"Because.","role":"assistant","user_id":"u1","rank":2,"synthetic":false,"review_result":true,"deleted":false,"labels":{"quality":{"value":0.4,"count":3}},"replies":[)"
    R"({"message_id":"c","text":"And?","role":"prompter","replies":[{"message_id":"d","text":"So.","role":"assistant","user_id":"u2","replies":[]}]}]},)"
    R"({"message_id":"b","text":"Gravity.","role":"assistant","rank":0,"synthetic":true,"model_name":"m-1","replies":[]},)"
    R"({"message_id":"e","text":"Spam!","role":"assistant","rank":1,"review_result":false,"replies":[{"message_id":"f","text":"x","role":"prompter","replies":[]}]},)"
    R"({"message_id":"g","text":"Mass attracts mass.","role":"assistant","user_id":"u4","rank":1,"replies":[]}]EVENTS}})";

std::string tree(const std::string& events) {
  std::string text = kTree;
  return text.replace(text.find("EVENTS"), 6, events) + "\n";
}

TEST_F(AnnotationImport, OpenAssistantTrees) {
  const ImportReport report = import_twice(
      "open-assistant",
      tree("") +
          R"({"message_id":"single","text":"x","role":"prompter"})"
          "\n"
          R"({"thread_id":"2","thread":[{"message_id":"1","text":"Q","role":"prompter"},{"message_id":"2","text":"A","role":"assistant","user_id":"u9"}]})"
          "\n"
          R"({"message_tree_id":"z","prompt":{"message_id":"z","text":"Q","role":"wizard"}})"
          "\n");
  EXPECT_EQ(report.added, 2u);
  EXPECT_EQ(report.rejected, 2u);
  const Records records = store_.read();
  ASSERT_EQ(records.comparisons.size(), 1u);
  EXPECT_EQ(texts(records.comparisons[0], records),
            (std::vector<std::string>{"Because.", "Gravity.", "Mass attracts mass."}));
  EXPECT_EQ(records.comparisons[0].ranks, (Ranks{2, 0, 1}));
  EXPECT_EQ(records.comparisons[0].rater, "");
  EXPECT_EQ(records.comparisons[0].provenance.kind, "across-people");
  for (const Item& item : records.items) {
    EXPECT_TRUE(item.prompt_is_messages);
    EXPECT_EQ(item.group, "t");
    EXPECT_NE(item.text, "Spam!");
    EXPECT_EQ(item.policy_hash, item.text == "Gravity." ? "m-1" : "");
  }
  std::map<std::string, Demonstration> demonstrations;
  for (const Demonstration& one : records.demonstrations) demonstrations[one.id] = one;
  ASSERT_EQ(demonstrations.size(), 2u);  // the best is a machine's; d has no rivals
  EXPECT_EQ(
      demonstrations["d"].prompt,
      R"([{"role":"user","content":"Why?"},{"role":"assistant","content":"Because."},{"role":"user","content":"And?"}])");
  EXPECT_EQ(demonstrations["d"].rater, "u2");
  EXPECT_EQ(demonstrations["2"].completion, "A");
}

TEST_F(AnnotationImport, OpenAssistantRankingsOfEachPerson) {
  import_twice(
      "open-assistant",
      tree(
          R"(,"events":{"ranking":[{"type":"ranking","user_id":"r1","ranking":[1,0],"ranked_message_ids":["b","a","g"],"ranking_parent_id":"t","message_tree_id":"t","not_rankable":null},)"
          R"({"type":"ranking","user_id":"r2","ranking":[0,1],"ranked_message_ids":["a","g"],"not_rankable":true},)"
          R"({"type":"ranking","user_id":"r3","ranking":[0,1],"ranked_message_ids":["a","e"]}]})"));
  const Records records = store_.read();
  ASSERT_EQ(records.comparisons.size(), 2u);
  EXPECT_EQ(records.comparisons[0].rater, "r1");
  EXPECT_EQ(texts(records.comparisons[0], records)[0], "Gravity.");
  EXPECT_EQ(records.comparisons[0].ranks, (Ranks{0, 1, 2}));
  EXPECT_EQ(records.comparisons[1].outcome, Outcome::kBothBad);
}

TEST_F(AnnotationImport, ArenaBattles) {
  const auto battle = [](const std::string& winner, const std::string& id) {
    return R"({"question_id":")" + id + R"(","model_a":"m","model_b":"n","winner":")" + winner +
           R"(","judge":"arena_user_1","conversation_a":[{"content":"Hi","role":"user"},{"content":"Hello","role":"assistant"}],)"
           R"("conversation_b":[{"content":"Hi","role":"user"},{"content":"No","role":"assistant"}],"turn":1,"anony":true,"language":"English","tstamp":1682351591.5})"
           "\n";
  };
  const ImportReport report = import_twice(
      "arena",
      battle("model_a", "1") + battle("model_b", "2") + battle("tie", "3") +
          battle("tie (bothbad)", "4") + battle("nobody", "5") +
          R"({"id":6,"model_a":"m","model_b":"n","prompt":"[\"Q1\",\"Q2\"]","response_a":"[\"A1\",\"A2\"]","response_b":"[\"B1\",null]","winner_model_a":0,"winner_model_b":1,"winner_tie":0})"
          "\n"
          R"({"id":7,"prompt":"[]","response_a":"[]","response_b":"x"})"
          "\n");
  EXPECT_EQ(report.added, 5u);
  EXPECT_EQ(report.rejected, 2u);
  const Records records = store_.read();
  ASSERT_EQ(records.comparisons.size(), 5u);
  EXPECT_EQ(records.comparisons[0].ranks, (Ranks{0, 1}));
  EXPECT_EQ(records.comparisons[1].ranks, (Ranks{1, 0}));
  EXPECT_EQ(records.comparisons[2].ranks, (Ranks{0, 0}));
  EXPECT_EQ(records.comparisons[3].outcome, Outcome::kBothBad);
  EXPECT_EQ(records.comparisons[0].provenance.answered_us, 1682351591500000);
  EXPECT_EQ(records.comparisons[0].rater, "arena_user_1");
  EXPECT_EQ(records.items[0].policy_hash, "m");
  EXPECT_EQ(texts(records.comparisons[4], records), (std::vector<std::string>{"A2", ""}));
  EXPECT_EQ(records.comparisons[4].id, "6");
}

TEST_F(AnnotationImport, ArraysThatEndWrong) {
  const std::string task = R"({"data":{"text":"x"}})";
  EXPECT_EQ(import("label-studio", "\xEF\xBB\xBF [ " + task + " , " + task + " ] \n").lines, 2u);
  for (const std::string& bad : {"[" + task, "[" + task + ",", "[" + task + "] " + task,
                                 std::string("["), "[" + task + ",{\"data\":\"]}"}) {
    EXPECT_THROW(import("label-studio", bad), InputError) << bad;
  }
  const ImportReport report = import("label-studio", "[" + task + ",[],7,{\"data\":{}},\"a,]\"]");
  EXPECT_EQ(report.lines, 5u);
  EXPECT_EQ(report.rejected, 4u);
  // Elements across the reader's buffer, and one too long.
  std::string large = "[";
  for (int i = 0; i < 40; ++i) {
    large += (i > 0 ? "," : "") + std::string("\n{\"data\":{\"text\":\"") +
             std::string(20000, static_cast<char>('a' + i % 26)) + std::to_string(i) + "\"}}";
  }
  EXPECT_EQ(import("label-studio", large + "]").added, 40u);
}

TEST(Annotation, Timestamps) {
  EXPECT_EQ(parse_timestamp("1970-01-01T00:00:01Z"), 1000000);
  EXPECT_EQ(parse_timestamp("1970-01-02 00:00:00.5"), 86400500000);
  EXPECT_EQ(parse_timestamp("1970-01-01T01:00:00+01:00"), 0);
  EXPECT_EQ(parse_timestamp("1970-01-01T00:00:00-00:30"), 1800000000);
  for (const char* bad : {"", "x", "2021-13-01T00:00:00Z", "2021-01-01T25:00:00Z", "2021-01-01"}) {
    EXPECT_EQ(parse_timestamp(bad), 0) << bad;
  }
  EXPECT_EQ(parse_timestamp(5), 0);
}

}  // namespace
}  // namespace hone::data
