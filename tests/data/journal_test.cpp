#include "data/journal/journal.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "data/error.h"
#include "tests/data/journal_fixture.h"

namespace hone::data {
namespace {

class JournalTest : public JournalFixture {
 protected:
  void SetUp() override { open(); }
};

TEST_F(JournalTest, AnswersSurviveReopeningWithAllThatWasSaid) {
  Project project = plain_project();
  project = journal().put_project(project, now_us_);
  EXPECT_EQ(project.guideline_hash.size(), 64u);
  EXPECT_EQ(journal().add_questions(pairs(2), now_us_).added, 2u);
  EXPECT_EQ(journal().add_questions(pairs(3), now_us_).duplicates, 2u);
  const auto assignment = next("ann");
  ASSERT_TRUE(assignment);
  EXPECT_EQ(assignment->prompt, "prompt of q0");
  ASSERT_EQ(assignment->texts.size(), 2u);
  const Receipt receipt = answer("ann", *assignment, kLeft, "once");
  EXPECT_EQ(receipt.sequence, 1);
  EXPECT_EQ(receipt.hash.size(), 64u);
  const int64_t token = assignment->token;
  reopen();
  const auto answers = journal().answers(0, 10);
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].question, "q0");
  EXPECT_EQ(answers[0].rater, "ann");
  EXPECT_EQ(answers[0].kind, "pairwise");
  EXPECT_EQ(answers[0].idempotency_key, "once");
  EXPECT_EQ(answers[0].guideline_hash, project.guideline_hash);
  EXPECT_EQ(answers[0].answered_us, receipt.at_us);
  EXPECT_EQ(nlohmann::json::parse(answers[0].body), nlohmann::json::parse(kLeft));
  const std::string first = answers[0].shown[0] == 0 ? "first" : "second";
  EXPECT_EQ(assignment->texts[0], first + " answer of q0");
  EXPECT_EQ(journal().project("default").guideline, "Read both.");
  EXPECT_EQ(journal().guideline(project.guideline_hash), "Read both.");
  EXPECT_EQ(journal().counts().answers, 1);
  EXPECT_EQ(journal().counts().complete, 1);
  EXPECT_EQ(journal().counts().open_slots, 2);
  const auto again = next("ann");
  ASSERT_TRUE(again);
  EXPECT_GT(again->token, token);
}

TEST_F(JournalTest, TheSameKeyAgainIsTheSameReceipt) {
  journal().put_project(plain_project(2), now_us_);
  journal().add_questions(pairs(1), now_us_);
  const auto assignment = next("ann");
  const Receipt first = answer("ann", *assignment, kLeft, "k");
  const Receipt again = answer("ann", *assignment, kLeft, "k");
  EXPECT_FALSE(first.repeated);
  EXPECT_TRUE(again.repeated);
  EXPECT_EQ(again.sequence, first.sequence);
  EXPECT_EQ(again.hash, first.hash);
  EXPECT_EQ(again.at_us, first.at_us);
  EXPECT_THROW(answer("ann", *assignment, kLeft, "other"), LeaseError);
  // Another rater's keys are their own.
  EXPECT_EQ(answer("bob", *next("bob"), kLeft, "k").sequence, 2);
  EXPECT_EQ(journal().answers(0, 10).size(), 2u);
}

TEST_F(JournalTest, OverlapIsExactAndNobodyAnswersTwice) {
  journal().put_project(plain_project(3), now_us_);
  journal().add_questions(pairs(4), now_us_);
  int answers = 0;
  for (int round = 0; round < 10; ++round) {
    for (const char* name : {"a", "b", "c", "d", "e"}) answers += work(name).has_value();
  }
  EXPECT_EQ(answers, 12);
  EXPECT_EQ(journal().counts().complete, 4);
  std::set<std::pair<std::string, std::string>> seen;
  for (const auto& one : journal().answers(0, 100)) {
    EXPECT_TRUE(seen.emplace(one.rater, one.question).second);
  }
}

TEST_F(JournalTest, ALiveLeaseKeepsOthersOut) {
  journal().put_project(plain_project(), now_us_);
  journal().add_questions(pairs(1), now_us_);
  const auto mine = next("ann");
  EXPECT_EQ(next("ann")->id, mine->id);
  const auto result = journal().next(rater("bob"), "default", now_us_);
  EXPECT_FALSE(result.assignment);
  EXPECT_EQ(result.why, NoQuestion::kAllLeased);
  EXPECT_EQ(result.retry_after_s, 600);
  EXPECT_EQ(journal().counts().leased, 1);
  EXPECT_THROW(answer("bob", *mine, kLeft), LeaseError);
}

TEST_F(JournalTest, AnExpiredLeaseGoesToOthersAndTheOldTokenIsRefused) {
  journal().put_project(plain_project(), now_us_);
  journal().add_questions(pairs(1), now_us_);
  const auto old = next("ann");
  now_us_ += 601'000'000;
  const auto mine = next("bob");
  ASSERT_TRUE(mine);
  EXPECT_GT(mine->token, old->token);
  EXPECT_THROW(answer("ann", *old, kLeft), LeaseError);
  EXPECT_FALSE(journal().renew(rater("ann"), old->id, old->token, now_us_));
  EXPECT_TRUE(journal().renew(rater("bob"), mine->id, mine->token, now_us_));
  EXPECT_EQ(answer("bob", *mine, kLeft).sequence, 1);
  EXPECT_EQ(journal().counts().leases_expired, 1);
}

TEST_F(JournalTest, AnExpiredLeaseWhoseSlotIsFreeIsHonoured) {
  journal().put_project(plain_project(), now_us_);
  journal().add_questions(pairs(2), now_us_);
  const auto late = next("ann");
  now_us_ += 601'000'000;
  ASSERT_TRUE(next("bob"));  // expires ann's; bob gets the other, which is older in the queue
  EXPECT_EQ(answer("ann", *late, kLeft).sequence, 1);
  EXPECT_EQ(journal().counts().open_slots, 0);
}

TEST_F(JournalTest, UndoTakesBackAndGivesTheSlotAgain) {
  journal().put_project(plain_project(), now_us_);
  journal().add_questions(pairs(2), now_us_);
  const auto before = next("ann");
  answer("ann", *before, kLeft, "first");
  ASSERT_TRUE(next("ann"));
  const Assignment again = journal().undo(rater("ann"), ++now_us_);
  EXPECT_EQ(again.prompt, before->prompt);
  EXPECT_EQ(again.texts, before->texts);
  EXPECT_EQ(nlohmann::json::parse(again.draft), nlohmann::json::parse(kLeft));
  EXPECT_EQ(journal().statistics(rater("ann"), "default", now_us_).answers, 0);
  answer("ann", again, kRight, "second");
  const auto answers = journal().answers(0, 10);
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_TRUE(answers[0].undone);
  EXPECT_FALSE(answers[1].undone);
  EXPECT_EQ(answers[1].supersedes, answers[0].sequence);
  EXPECT_EQ(answers[1].sequence, 3);  // the undo is a row of its own
  EXPECT_EQ(journal().statistics(rater("ann"), "default", now_us_).answers, 1);
  EXPECT_THROW(journal().undo(rater("bob"), now_us_), InputError);
}

TEST_F(JournalTest, WhoReadByACursorHearsOfUndoAndErasure) {
  journal().put_project(plain_project(2), now_us_);
  journal().add_questions(pairs(3), now_us_);
  work("ann");
  work("bob");
  std::vector<JournalAnswer> rows = journal().rows(0, 10, "default");
  ASSERT_EQ(rows.size(), 2u);
  int64_t cursor = rows.back().sequence;
  journal().undo(rater("bob"), ++now_us_);
  rows = journal().rows(cursor, 10, "default");
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].type, RowType::kUndo);
  EXPECT_EQ(rows[0].supersedes, 2);
  EXPECT_EQ(rows[0].rater, "bob");
  EXPECT_FALSE(rows[0].sealed);
  cursor = rows.back().sequence;
  work("bob");
  journal().erase("bob", now_us_);
  rows = journal().rows(cursor, 10, "default");
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].type, RowType::kErasure);
  EXPECT_EQ(rows[0].erased, (std::vector<int64_t>{2, 3, 4}));
  EXPECT_TRUE(rows[0].rater.empty());
  EXPECT_EQ(journal().rows(0, 10).size(), 2u);
  EXPECT_EQ(journal().answers(0, 10).size(), 1u);
}

TEST_F(JournalTest, AClockThatIsSetBackHoldsNobodyUp) {
  Project project = plain_project();
  project.dwell_ms = 2000;
  journal().put_project(project, now_us_);
  journal().add_questions(pairs(2), now_us_);
  const auto assignment = next("ann");
  now_us_ += 1'000'000;
  EXPECT_THROW(answer("ann", *assignment, kLeft), InputError);  // too early
  now_us_ -= 3600 * int64_t{1'000'000};
  EXPECT_EQ(answer("ann", *assignment, kLeft).sequence, 1);
  EXPECT_TRUE(next("ann"));
  EXPECT_TRUE(journal().verify().empty());
}

TEST_F(JournalTest, SkippedQuestionsGoToOthers) {
  journal().put_project(plain_project(), now_us_);
  journal().add_questions(pairs(1), now_us_);
  answer("ann", *next("ann"), kSkip);
  EXPECT_EQ(why("ann"), NoQuestion::kDone);
  EXPECT_TRUE(work("bob"));
  EXPECT_EQ(journal().counts().complete, 1);
  EXPECT_EQ(journal().statistics(rater("ann"), "default", now_us_).skips, 1);
}

TEST_F(JournalTest, FlaggedQuestionsEscalateToExpertsWhoDecide) {
  journal().put_project(plain_project(2), now_us_);
  journal().add_questions(pairs(1), now_us_);
  const auto ann = next("ann");
  const auto bob = next("bob");
  answer("ann", *ann, kFlag);
  EXPECT_EQ(journal().counts().escalated, 1);
  answer("bob", *bob, R"({"outcome":"ordered","ranks":[0,1]})");  // was under way
  EXPECT_FALSE(next("carl"));
  const auto expert = next("eve", true);
  ASSERT_TRUE(expert);
  EXPECT_TRUE(expert->escalated);
  EXPECT_FALSE(next("fred", true));  // one expert at a time
  reopen();                          // what the others said is in the journal, not in a process
  const bool same_order = expert->texts == bob->texts;
  for (const bool repeated : {false, true}) {
    const Receipt receipt = answer("eve", *expert, kLeft, "decision");
    EXPECT_EQ(receipt.repeated, repeated);
    ASSERT_EQ(receipt.others.size(), 2u);
    const auto others = nlohmann::json::parse(receipt.others[1]);
    EXPECT_EQ(others["ranks"][0], same_order ? 0 : 1);
  }
  EXPECT_EQ(journal().counts().escalated, 0);
  EXPECT_EQ(journal().counts().complete, 1);
  EXPECT_TRUE(journal().answers(0, 10).back().escalation);
}

TEST_F(JournalTest, OrderIsBalancedWithinOneForEveryRater) {
  journal().put_project(plain_project(3), now_us_);
  journal().add_questions(pairs(60), now_us_);
  Question four = pair("four");
  std::map<std::string, int> balance;
  std::map<std::string, std::string> sides;
  for (int i = 0; i < 60; ++i) {
    for (const char* name : {"a", "b", "c"}) {
      const auto one = next(name);
      ASSERT_TRUE(one);
      const bool swapped = one->texts[0].starts_with("second");
      balance[name] += swapped ? 1 : -1;
      sides[name] += swapped ? 'R' : 'L';
      EXPECT_LE(std::abs(balance[name]), 1);
      answer(name, *one, kTie);
    }
  }
  EXPECT_NE(sides["a"], sides["b"]);
  EXPECT_NE(sides["a"].find("LL"), std::string::npos);  // not merely alternating
}

TEST_F(JournalTest, RepeatsComeSwappedAndAreJudged) {
  Project project = plain_project();
  project.repeat_share = 0.3;
  journal().put_project(project, now_us_);
  journal().add_questions(pairs(100), now_us_);
  std::map<std::string, std::string> left_of;
  int repeats = 0;
  while (const auto one = next("ann")) {
    const auto known = left_of.find(one->prompt);
    if (known != left_of.end()) {
      ++repeats;
      EXPECT_EQ(one->texts[1], known->second);
    }
    left_of[one->prompt] = one->texts[0];
    // Always the first candidate, but every third repeat.
    const bool first_left = one->texts[0].starts_with("first");
    const bool other = known != left_of.end() && repeats % 3 == 0;
    answer("ann", *one, first_left != other ? kLeft : kRight);
  }
  EXPECT_GT(repeats, 10);
  const auto statistics = journal().statistics(rater("ann"), "default", now_us_);
  EXPECT_EQ(statistics.repeats, repeats);
  EXPECT_EQ(statistics.repeats_same, repeats - repeats / 3);
  EXPECT_EQ(journal().counts().complete, 100);
}

TEST_F(JournalTest, GoldAndQualification) {
  Project project = plain_project();
  project.gold_share = 0.2;
  project.qualification_questions = 2;
  project.qualification_share = 0.5;
  journal().put_project(project, now_us_);
  auto questions = pairs(40);
  for (int i = 0; i < 20; ++i) {
    questions[i].gold = R"({"outcome":"ordered","ranks":[0,1]})";
    questions[i].qualification = i < 2;
  }
  journal().add_questions(questions, now_us_);
  for (const char* name : {"good", "bad"}) {
    for (int i = 0; i < 2; ++i) {
      const auto one = next(name);
      ASSERT_TRUE(one);
      EXPECT_EQ(one->prompt, "prompt of q" + std::to_string(i));
      const bool first_left = one->texts[0].starts_with("first");
      answer(name, *one, first_left == (std::string(name) == "good") ? kLeft : kRight);
    }
  }
  EXPECT_EQ(why("bad"), NoQuestion::kNotQualified);
  EXPECT_FALSE(journal().statistics(rater("bad"), "default", now_us_).qualified);
  EXPECT_TRUE(journal().statistics(rater("good"), "default", now_us_).qualified);
  int given = 0;
  while (work("good")) ++given;
  int gold = 0;
  for (const auto& one : journal().answers(4, 100)) gold += one.gold;
  EXPECT_EQ(given - gold, 20);
  EXPECT_GT(gold, 0);
}

constexpr int64_t kSecond = 1'000'000, kDayUs = 24 * 3600 * kSecond;

TEST_F(JournalTest, CapsEndSittingsAndDays) {
  Project project = plain_project();
  project.session_answers = 2;
  project.daily_answers = 3;
  journal().put_project(project, now_us_);
  journal().add_questions(pairs(10), now_us_);
  now_us_ += kDayUs - now_us_ % kDayUs;  // a day begins
  EXPECT_TRUE(work("ann"));
  EXPECT_TRUE(work("ann"));
  EXPECT_EQ(why("ann"), NoQuestion::kSessionCap);
  // Neither signing in again nor another start of the server begins a new sitting.
  RaterRef again = rater("ann");
  again.session = "another";
  const auto ask = [&] { return journal().next(again, "default", ++now_us_); };
  EXPECT_EQ(ask().why, NoQuestion::kSessionCap);
  reopen();
  const auto capped = ask();
  EXPECT_EQ(capped.why, NoQuestion::kSessionCap);
  EXPECT_EQ(journal().statistics(again, "default", now_us_).session_answers, 2);
  // Somebody else has a sitting of their own.
  EXPECT_TRUE(work("bob"));
  // Asking during the break does not lengthen it; at the time that was told it is over.
  now_us_ += (capped.retry_after_s - 2) * kSecond;
  EXPECT_EQ(ask().why, NoQuestion::kSessionCap);
  now_us_ += 2 * kSecond;
  EXPECT_EQ(journal().statistics(again, "default", now_us_).session_answers, 0);
  const auto third = ask().assignment;
  ASSERT_TRUE(third);
  answer("ann", *third, kLeft);
  EXPECT_EQ(journal().statistics(again, "default", now_us_).session_answers, 1);
  const auto full = ask();
  EXPECT_EQ(full.why, NoQuestion::kDailyCap);
  now_us_ += full.retry_after_s * kSecond;
  EXPECT_EQ(now_us_ / kSecond % (24 * 3600), 0);
  EXPECT_TRUE(ask().assignment);
}

TEST_F(JournalTest, SittingsEndByTheClockAndGiveBackWhatIsTakenBack) {
  Project project = plain_project();
  project.session_answers = 3;
  project.session_minutes = 60;
  journal().put_project(project, now_us_);
  journal().add_questions(pairs(20), now_us_);
  const auto minutes = [&](int64_t count) { now_us_ += count * 60 * kSecond; };
  ASSERT_TRUE(work("ann"));
  for (int i = 0; i < 2; ++i) {  // what is taken back does not count
    ASSERT_TRUE(work("ann"));
    const auto back = journal().undo(rater("ann"), ++now_us_);
    answer("ann", back, kRight);
    const auto again = journal().undo(rater("ann"), ++now_us_);
    answer("ann", again, kSkip);
    journal().undo(rater("ann"), ++now_us_);
  }
  EXPECT_EQ(journal().statistics(rater("ann"), "default", now_us_).session_answers, 1);
  minutes(29);
  ASSERT_TRUE(work("ann"));
  minutes(29);
  ASSERT_TRUE(next("ann"));  // an hour has not passed
  minutes(2);
  answer("ann", *next("ann"), kLeft);
  EXPECT_EQ(why("ann"), NoQuestion::kSessionCap);
  minutes(31);
  EXPECT_TRUE(work("ann"));
  // A clock that ran a year ahead and was set right holds nobody off for a year.
  minutes(365 * 24 * 60);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(work("ann"));
  EXPECT_EQ(why("ann"), NoQuestion::kSessionCap);
  minutes(-365 * 24 * 60);
  EXPECT_TRUE(work("ann"));
}

TEST_F(JournalTest, PriorityThenNearestToCompleteThenOldest) {
  journal().put_project(plain_project(2), now_us_);
  auto questions = pairs(3);
  questions[2].priority = 5;
  journal().add_questions(questions, now_us_);
  EXPECT_EQ(next("a")->prompt, "prompt of q2");
  answer("a", *next("a"), kLeft);
  answer("a", *next("a"), kLeft);
  EXPECT_EQ(next("a")->prompt, "prompt of q1");
  EXPECT_EQ(next("b")->prompt, "prompt of q2");
  answer("b", *next("b"), kLeft);
  EXPECT_EQ(next("b")->prompt, "prompt of q0");  // one answer short
}

TEST_F(JournalTest, LanguagesAreRespected) {
  journal().put_project(plain_project(), now_us_);
  auto questions = pairs(2);
  questions[0].language = "de";
  journal().add_questions(questions, now_us_);
  RaterRef english = rater("ann");
  english.languages = {"en"};
  const auto one = journal().next(english, "default", ++now_us_).assignment;
  EXPECT_EQ(one->prompt, "prompt of q1");
  answer("ann", *one, kLeft);
  EXPECT_EQ(journal().next(english, "default", ++now_us_).why, NoQuestion::kLanguage);
  EXPECT_EQ(next("polyglot")->prompt, "prompt of q0");
}

TEST_F(JournalTest, RefusesAnswersThatDoNotFit) {
  Project project = plain_project();
  project.dwell_ms = 1000;
  journal().put_project(project, now_us_);
  journal().add_questions(pairs(1), now_us_);
  const auto one = next("ann");
  EXPECT_EQ(one->dwell_ms, 1000);
  EXPECT_THROW(answer("ann", *one, kLeft), InputError);  // too fast
  now_us_ += 2'000'000;
  for (const char* body :
       {"[]", "{}", R"({"outcome":"ordered","ranks":[0]})", R"({"outcome":"rated"})",
        R"({"outcome":"ordered","ranks":[0,1],"strength":9})",
        R"({"outcome":"ordered","ranks":[1,1]})", R"({"outcome":"ordered","ranks":[0,1],"x":1})",
        R"({"outcome":"flagged","flags":["nice"]})", R"({"outcome":"skipped"})", "\"\xff\""}) {
    EXPECT_THROW(answer("ann", *one, body), InputError) << body;
  }
  EXPECT_EQ(journal().answers(0, 10).size(), 0u);
  EXPECT_EQ(answer("ann", *one, kLeft).sequence, 1);
}

TEST_F(JournalTest, OnlyOneProcessHoldsIt) { EXPECT_THROW(Journal::open(store()), IoError); }

TEST_F(JournalTest, DraftsAreKept) {
  journal().put_project(plain_project(), now_us_);
  journal().add_questions(pairs(1), now_us_);
  const auto one = next("ann");
  journal().save_draft(rater("ann"), one->id, one->token, R"({"text":"so far"})");
  reopen();
  EXPECT_EQ(next("ann")->draft, R"({"text":"so far"})");
  EXPECT_THROW(journal().save_draft(rater("bob"), one->id, one->token, "{}"), LeaseError);
}

}  // namespace
}  // namespace hone::data
