// From the journal into segments, out of both, and away.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "data/error.h"
#include "data/journal/journal.h"
#include "data/journal/journal_impl.h"
#include "tests/data/journal_fixture.h"

namespace hone::data {
namespace {

constexpr int64_t kHour = 3600 * int64_t{1'000'000};

class SealTest : public JournalFixture {
 protected:
  void SetUp() override { open(); }

  /// One answer of every kind, by "ann"; ids of the answers by kind.
  void answer_every_kind() {
    Project project = plain_project();
    project.dimensions = {{"kindness", "Kind?", 1, 5, "", ""}, {"truth", "True?", 1, 7, "", ""}};
    project.span_labels = {"wrong"};
    journal().put_project(project, now_us_);
    std::vector<Question> questions;
    for (const QuestionKind kind :
         {QuestionKind::kPairwise, QuestionKind::kRanking, QuestionKind::kRating,
          QuestionKind::kDemonstration, QuestionKind::kCorrection, QuestionKind::kSpans,
          QuestionKind::kSteps, QuestionKind::kReview}) {
      Question question;
      question.id = kind_name(kind);
      question.kind = kind;
      question.prompt = "Say " + question.id;
      const int candidates = kind == QuestionKind::kPairwise        ? 2
                             : kind == QuestionKind::kRanking       ? 3
                             : kind == QuestionKind::kDemonstration ? 0
                                                                    : 1;
      for (int i = 0; i < candidates; ++i) {
        question.candidates.push_back({std::string(1, static_cast<char>('a' + i)),
                                       "text " + std::to_string(i) + "\n\nmore", "policy", "{}"});
      }
      question.propensity = 0.5;
      question.acquisition = "disagreement 0.7";
      questions.push_back(question);
    }
    journal().add_questions(questions, now_us_);
    const std::map<std::string, std::string> bodies = {
        {"pairwise", R"({"outcome":"ordered","ranks":[1,0],"strength":2,"rationale":"why"})"},
        {"ranking", R"({"outcome":"ordered","ranks":[2,null,0]})"},
        {"rating", R"({"outcome":"rated","ratings":[{"kindness":4,"truth":7}]})"},
        {"demonstration", R"({"outcome":"written","text":"my answer"})"},
        {"correction", R"({"outcome":"written","position":0,"text":"better text"})"},
        {"spans",
         R"({"outcome":"marked","spans":[{"position":0,"start":1,"end":4,"label":"wrong"}]})"},
        {"steps", R"({"outcome":"marked","steps":[{"position":0,"step":1,"value":-1}]})"},
        {"review", R"({"outcome":"reviewed","approved":true})"}};
    while (const auto one = next("ann")) {
      shown_[std::string(kind_name(one->kind))] = one->texts;
      answer("ann", *one, bodies.at(std::string(kind_name(one->kind))));
    }
  }

  std::map<std::string, std::vector<std::string>> shown_;
};

void expect_every_kind(const Records& records,
                       const std::map<std::string, std::vector<std::string>>& shown) {
  ASSERT_EQ(records.answers.size(), 8u);
  ASSERT_EQ(records.comparisons.size(), 2u);
  const Comparison& pair = records.comparisons[0];
  EXPECT_EQ(pair.id, records.answers[0].id);
  EXPECT_EQ(pair.strength, 2);
  EXPECT_EQ(pair.rationale, "why");
  EXPECT_EQ(pair.rater, "ann");
  EXPECT_EQ(pair.provenance.propensity, 0.5);
  // What stood on the right was preferred.
  for (std::size_t p = 0; p < 2; ++p) {
    const Item& item = records.items[static_cast<std::size_t>(pair.items[pair.shown[p]])];
    EXPECT_EQ(item.text, shown.at("pairwise")[p]);
    EXPECT_EQ(pair.ranks[pair.shown[p]], p == 1 ? 0 : 1);
    EXPECT_EQ(item.policy_hash, "policy");
    EXPECT_EQ(item.source, "collect");
  }
  // Of three, one was not ranked.
  const Comparison& ranking = records.comparisons[1];
  ASSERT_EQ(ranking.items.size(), 2u);
  const auto text_at = [&](std::size_t p) {
    return records.items[static_cast<std::size_t>(ranking.items[ranking.shown[p]])].text;
  };
  EXPECT_EQ(text_at(0), shown.at("ranking")[0]);
  EXPECT_EQ(text_at(1), shown.at("ranking")[2]);
  EXPECT_EQ(ranking.ranks[ranking.shown[0]], 1);
  EXPECT_EQ(ranking.ranks[ranking.shown[1]], 0);
  ASSERT_EQ(records.ratings.size(), 2u);
  EXPECT_EQ(records.ratings[0].dimension, "kindness");
  EXPECT_EQ(records.ratings[0].value, 4);
  ASSERT_EQ(records.demonstrations.size(), 3u);  // written, corrected, approved
  EXPECT_EQ(records.demonstrations[0].completion, "my answer");
  EXPECT_EQ(records.demonstrations[1].completion, "better text");
  EXPECT_EQ(records.demonstrations[2].completion, "text 0\n\nmore");
  ASSERT_EQ(records.corrections.size(), 1u);
  EXPECT_EQ(records.corrections[0].text, "better text");
  ASSERT_EQ(records.spans.size(), 1u);
  EXPECT_EQ(records.spans[0].begin, 1);
  EXPECT_EQ(records.spans[0].end, 4);
  ASSERT_EQ(records.steps.size(), 1u);
  EXPECT_EQ(records.steps[0].step, 1);
  EXPECT_EQ(records.steps[0].value, -1);
  ASSERT_EQ(records.reviews.size(), 1u);
  EXPECT_TRUE(records.reviews[0].approved);
  const Answer& first = records.answers[0];
  EXPECT_EQ(first.sequence, 1);
  EXPECT_EQ(first.id, first.receipt.substr(0, 32));
  EXPECT_EQ(first.acquisition, "disagreement 0.7");
  EXPECT_EQ(first.candidates, R"(["a","b"])");
  EXPECT_EQ(first.visible_ms, 5);
  EXPECT_EQ(first.submit_ms, 9);
  EXPECT_EQ(first.first_input_ms, -1);
  EXPECT_EQ(first.seen_ms, (std::vector<int64_t>{3, 4}));
  EXPECT_EQ(first.device, "desktop");
  EXPECT_EQ(first.provenance.guideline_hash.size(), 64u);
}

TEST_F(SealTest, EveryKindIsReadTheSameBeforeAndAfterSealing) {
  answer_every_kind();
  FeedbackCursor cursor;
  const Records before = read_feedback(store(), &cursor);
  expect_every_kind(before, shown_);
  EXPECT_EQ(cursor.sequence, 8);
  EXPECT_FALSE(has_new_feedback(store(), cursor));
  const auto segment = journal().seal(now_us_ + kHour);
  ASSERT_TRUE(segment);
  EXPECT_EQ(segment->answers, 8u);
  expect_every_kind(read_feedback(store()), shown_);
  expect_every_kind(Store::open(store()).read(), shown_);
  EXPECT_TRUE(has_new_feedback(store(), cursor));
  EXPECT_TRUE(journal().verify().empty());
  EXPECT_EQ(journal().counts().unsealed, 0);
  EXPECT_TRUE(journal().answers(0, 1)[0].sealed);
  EXPECT_FALSE(journal().seal(now_us_ + kHour));
}

TEST_F(SealTest, WhatMayStillBeTakenBackWaits) {
  journal().put_project(plain_project(), now_us_);
  journal().add_questions(pairs(3), now_us_);
  work("ann");
  work("ann");
  const auto segment = journal().seal(now_us_);
  ASSERT_TRUE(segment);
  EXPECT_EQ(segment->answers, 1u);  // the latest is left
  journal().undo(rater("ann"), now_us_);
  EXPECT_THROW(journal().undo(rater("ann"), now_us_), InputError);  // sealed and past
  EXPECT_FALSE(journal().seal(now_us_ + kHour));
  EXPECT_EQ(read_feedback(store()).answers.size(), 1u);
  EXPECT_TRUE(journal().verify().empty());
}

TEST_F(SealTest, ACrashBetweenSegmentAndJournalAddsNothingTwice) {
  answer_every_kind();
  journal().seal(now_us_ + kHour);
  const std::string hash = Store::open(store()).hash();
  // The segment is in place, but the journal never heard of it.
  journal_.reset();
  {
    auto database = sqlite::Database::open(store() / "journal.sqlite");
    database.execute("INSERT INTO unsealed SELECT sequence, rater, 1 FROM answers WHERE type = 0");
  }
  open();
  expect_every_kind(read_feedback(store()), shown_);
  EXPECT_FALSE(journal().seal(now_us_ + kHour));
  EXPECT_EQ(Store::open(store()).hash(), hash);
  EXPECT_EQ(journal().counts().unsealed, 0);
  EXPECT_TRUE(journal().verify().empty());
}

/// Every file of the store that contains the bytes.
std::vector<std::string> files_with(const std::filesystem::path& store, const std::string& bytes) {
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(store)) {
    if (entry.is_regular_file() && slurp(entry.path()).find(bytes) != std::string::npos) {
      found.push_back(entry.path().filename().string());
    }
  }
  return found;
}

TEST_F(SealTest, ErasingLeavesNoByteOfAPerson) {
  journal().put_project(plain_project(2), now_us_);
  auto questions = pairs(40);
  questions[7].kind = QuestionKind::kDemonstration;
  questions[7].candidates.clear();
  journal().add_questions(questions, now_us_);
  const std::string secret = "words that only zebedee would write";
  for (int i = 0; i < 30; ++i) {
    if (i == 15) journal().seal(now_us_ + kHour);
    for (const char* name : {"zebedee", "bob"}) {
      const auto one = next(name);
      ASSERT_TRUE(one);
      nlohmann::json body = nlohmann::json::parse(kLeft);
      if (one->kind == QuestionKind::kDemonstration) body = {{"outcome", "written"}, {"text", "x"}};
      if (std::string(name) == "zebedee") body["rationale"] = secret + std::to_string(i);
      answer(name, *one, body.dump());
    }
  }
  next("zebedee");
  EXPECT_GE(files_with(store(), "zebedee").size(), 2u);  // journal and segment
  const auto before = journal().answers(0, 1000);
  EXPECT_EQ(journal().erase("zebedee", now_us_), 30);
  EXPECT_EQ(files_with(store(), "zebedee"), std::vector<std::string>{});
  EXPECT_EQ(files_with(store(), secret), std::vector<std::string>{});
  EXPECT_TRUE(journal().verify().empty());
  const auto after = journal().answers(0, 1000);
  EXPECT_EQ(after.size(), 30u);
  for (const auto& one : after) EXPECT_EQ(one.rater, "bob");
  EXPECT_EQ(journal().counts().answers, 30);
  const Records records = read_feedback(store());
  EXPECT_EQ(records.answers.size(), 30u);
  for (const Comparison& one : records.comparisons) EXPECT_EQ(one.rater, "bob");
  // The slots are open again, and the chain goes on.
  EXPECT_TRUE(work("carl"));
  reopen();
  EXPECT_TRUE(journal().verify().empty());
  journal().seal(now_us_ + kHour);
  EXPECT_TRUE(journal().verify().empty());
  EXPECT_EQ(read_feedback(store()).answers.size(), 31u);
}

TEST_F(SealTest, AnErasureThatWasInterruptedIsFinished) {
  journal().put_project(plain_project(), now_us_);
  journal().add_questions(pairs(5), now_us_);
  for (int i = 0; i < 3; ++i) work("zebedee");
  journal().seal(now_us_ + kHour);
  journal_.reset();
  {
    auto database = sqlite::Database::open(store() / "journal.sqlite");
    database.execute("INSERT INTO meta VALUES('erasing', 'zebedee')");
  }
  EXPECT_FALSE(verify_journal(store()).empty());
  open();
  EXPECT_EQ(files_with(store(), "zebedee"), std::vector<std::string>{});
  EXPECT_TRUE(journal().verify().empty());
  EXPECT_TRUE(journal().answers(0, 10).empty());
}

TEST_F(SealTest, VerifyFindsWhatWasTamperedWith) {
  journal().put_project(plain_project(2), now_us_);
  journal().add_questions(pairs(5), now_us_);
  for (int i = 0; i < 3; ++i) {
    work("ann");
    work("bob");
  }
  journal_.reset();
  const std::string clean = slurp(store() / "journal.sqlite");
  for (const char* change :
       {"UPDATE answers SET body = replace(body, '0,1', '1,0') WHERE sequence = 2",
        "UPDATE answers SET rater = 'eve' WHERE sequence = 3",
        "DELETE FROM answers WHERE sequence = 2",
        "DELETE FROM answers WHERE sequence = 6; DELETE FROM audit WHERE sequence = 5",
        "UPDATE audit SET hash = digest WHERE sequence = 4",
        "UPDATE questions SET accepted = 1, remaining = 1 WHERE seq = 1",
        "UPDATE questions SET ready = 1 WHERE seq = 1", "UPDATE shifts SET answers = answers + 3",
        "UPDATE guidelines SET text = 'Read nothing.'"}) {
    spit(store() / "journal.sqlite", clean);
    EXPECT_TRUE(verify_journal(store()).empty());
    {
      auto database = sqlite::Database::open(store() / "journal.sqlite");
      database.execute(change);
    }
    EXPECT_FALSE(verify_journal(store()).empty()) << change;
  }
  std::string flipped = clean;
  flipped[flipped.find("\"strength\"") + 1] ^= 1;
  spit(store() / "journal.sqlite", flipped);
  EXPECT_FALSE(verify_journal(store()).empty());
}

}  // namespace
}  // namespace hone::data
