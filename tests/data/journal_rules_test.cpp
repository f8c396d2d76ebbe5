// The rules of assignment against a simple model in memory, and with ten thousand raters.

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <set>
#include <thread>

#include "data/error.h"
#include "data/journal/journal.h"
#include "tests/data/journal_fixture.h"

namespace hone::data {
namespace {

constexpr int64_t kSecond = 1'000'000;

/// The rules in their plainest form: everything looked through every time.
class Model {
 public:
  struct Held {
    std::string rater;
    int question;
    int64_t expires_us;
  };
  struct Asked {
    int64_t priority;
    std::set<std::string> answered, skipped;
  };

  explicit Model(int64_t overlap) : overlap_(overlap) {}

  int live(int question, int64_t now) const {
    int count = 0;
    for (const auto& [id, held] : leases) {
      count += held.question == question && held.expires_us > now;
    }
    return count;
  }
  bool free(int question, int64_t now) const {
    return static_cast<int64_t>(questions[question].answered.size()) + live(question, now) <
           overlap_;
  }
  bool had(const std::string& rater, int question) const {
    return questions[question].answered.count(rater) + questions[question].skipped.count(rater) > 0;
  }
  /// Best (priority, answers) that the rater could have; nullopt: nothing.
  std::optional<std::pair<int64_t, int64_t>> best(const std::string& rater, int64_t now) const {
    std::optional<std::pair<int64_t, int64_t>> found;
    for (int q = 0; q < static_cast<int>(questions.size()); ++q) {
      if (had(rater, q) || !free(q, now)) continue;
      const std::pair<int64_t, int64_t> rank{questions[q].priority,
                                             static_cast<int64_t>(questions[q].answered.size())};
      if (!found || rank > *found) found = rank;
    }
    return found;
  }

  std::vector<Asked> questions;
  std::map<std::string, Held> leases;

 private:
  int64_t overlap_;
};

class RulesTest : public JournalFixture {
 protected:
  void SetUp() override { open(); }
};

TEST_F(RulesTest, AgreeWithAModelOverRandomHistories) {
  constexpr int kQuestions = 8, kOverlap = 2;
  std::mt19937 random(11);
  for (int history = 0; history < 12; ++history) {
    const std::string project = "p" + std::to_string(history);
    Project rules = plain_project(kOverlap);
    rules.id = project;
    rules.lease_s = 10;
    journal().put_project(rules, now_us_);
    Model model(kOverlap);
    std::vector<Question> questions;
    for (int i = 0; i < kQuestions; ++i) {
      questions.push_back(pair(project + "-" + std::to_string(i), project));
      questions.back().priority = static_cast<int64_t>(random() % 2);
      model.questions.push_back({questions.back().priority, {}, {}});
    }
    journal().add_questions(questions, now_us_);
    const auto number_of = [&](const Assignment& one) {
      return std::stoi(one.prompt.substr(one.prompt.rfind('-') + 1));
    };
    std::map<std::string, Assignment> given;  // the rater's newest
    std::map<std::string, std::vector<int>> done;
    for (int step = 0; step < 120; ++step) {
      const std::string name = project + std::string(1, static_cast<char>('a' + random() % 4));
      const int64_t now = now_us_ += kSecond / 10;
      // The model's own expiry: what is over and has no free slot, or is replaced, is gone.
      const auto mine = [&] {
        return std::find_if(model.leases.begin(), model.leases.end(),
                            [&](const auto& one) { return one.second.rater == name; });
      };
      switch (random() % 6) {
        case 0:
        case 1:
        case 2: {
          const auto result = journal().next(rater(name), project, now);
          auto held = mine();
          if (held != model.leases.end() && held->second.expires_us <= now &&
              !model.free(held->second.question, now)) {
            model.leases.erase(held);
            held = model.leases.end();
          }
          if (held != model.leases.end()) {  // the same again
            ASSERT_TRUE(result.assignment);
            EXPECT_EQ(result.assignment->id, held->first);
            held->second.expires_us = result.assignment->expires_us;
            break;
          }
          const auto best = model.best(name, now);
          ASSERT_EQ(result.assignment.has_value(), best.has_value()) << "step " << step;
          if (!best) break;
          const int q = number_of(*result.assignment);
          EXPECT_FALSE(model.had(name, q));
          EXPECT_TRUE(model.free(q, now));
          EXPECT_EQ(model.questions[q].priority, best->first);
          EXPECT_EQ(static_cast<int64_t>(model.questions[q].answered.size()), best->second);
          model.leases[result.assignment->id] = {name, q, result.assignment->expires_us};
          given[name] = *result.assignment;
          break;
        }
        case 3:
        case 4: {
          const auto newest = given.find(name);
          if (newest == given.end()) break;
          const auto held = model.leases.find(newest->second.id);
          const bool known = held != model.leases.end();
          const bool stands =
              known && (held->second.expires_us > now || model.free(held->second.question, now));
          const bool skip = random() % 4 == 0;
          try {
            answer(name, newest->second, skip ? kSkip : kLeft);
            EXPECT_TRUE(stands);
            auto& asked = model.questions[held->second.question];
            (skip ? asked.skipped : asked.answered).insert(name);
            done[name].push_back(held->second.question);
            model.leases.erase(held);
          } catch (const LeaseError&) {
            EXPECT_FALSE(stands) << "step " << step;
          }
          given.erase(newest);
          break;
        }
        default:
          now_us_ += static_cast<int64_t>(random() % 6) * kSecond;
      }
      for (const auto& asked : model.questions) {
        ASSERT_LE(asked.answered.size(), std::size_t{kOverlap});
      }
    }
    int64_t answers = 0;
    for (const auto& asked : model.questions) {
      answers += static_cast<int64_t>(asked.answered.size() + asked.skipped.size());
    }
    EXPECT_EQ(journal().counts(project).answers, answers);
  }
  for (const auto& problem : journal().verify()) {
    ADD_FAILURE() << problem.column << ": " << problem.message;
  }
}

TEST_F(RulesTest, TenThousandRatersHalfOfWhomVanish) {
  constexpr int kRaters = 10'000, kOverlap = 3, kQuestions = 1'200, kThreads = 16;
  Project rules = plain_project(kOverlap);
  rules.lease_s = 1;
  journal().put_project(rules, now_us_);
  journal().add_questions(pairs(kQuestions), now_us_);
  std::atomic<int64_t> clock{now_us_};
  std::atomic<int> turn{0}, answers{0}, vanished{0};
  const auto one_rater = [&](int number) {
    const std::string name = "r" + std::to_string(number);
    const auto result = journal().next(rater(name), "default", clock += 1000);
    if (!result.assignment) return;
    if (number % 2 == 1 && number < kRaters) {  // takes a question and is never seen again
      ++vanished;
      return;
    }
    AnswerRequest request;
    request.assignment = result.assignment->id;
    request.token = result.assignment->token;
    request.body = kLeft;
    request.idempotency_key = "k";
    try {
      journal().submit(rater(name), request, clock += 1000);
      ++answers;
    } catch (const LeaseError&) {  // took longer than the lease on this clock
    }
  };
  const auto crowd = [&](int from, int to) {
    turn = from;
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&] {
        for (int number; (number = turn++) < to;) one_rater(number);
      });
    }
    for (auto& thread : threads) thread.join();
  };
  crowd(0, kRaters);
  EXPECT_GT(vanished, kRaters / 4);
  // Whoever stayed works on what the vanished held, until nothing is left.
  clock += 3600 * kSecond;
  for (int round = 0; round < 5 && answers < kOverlap * kQuestions; ++round) {
    crowd(kRaters * (round + 1), kRaters * (round + 1) + 2000);
    clock += 3600 * kSecond;
  }
  EXPECT_EQ(answers, kOverlap * kQuestions);
  EXPECT_EQ(journal().counts().complete, kQuestions);
  EXPECT_EQ(journal().counts().leased, 0);
  std::map<std::string, std::set<std::string>> raters_of;
  for (const auto& one : journal().answers(0, 100'000)) {
    EXPECT_TRUE(raters_of[one.question].insert(one.rater).second);
  }
  EXPECT_EQ(raters_of.size(), std::size_t{kQuestions});
  for (const auto& [question, raters] : raters_of) EXPECT_EQ(raters.size(), std::size_t{kOverlap});
  EXPECT_TRUE(verify_journal(store()).empty());
}

TEST_F(RulesTest, HeldAssignmentsAreDifferentOnes) {
  journal().put_project(plain_project(2), now_us_);
  journal().add_questions(pairs(6), now_us_);
  RaterRef offline = rater("ann");
  std::vector<Assignment> held;
  std::set<std::string> prompts;
  for (int i = 0; i < 6; ++i) {
    const auto one = journal().next(offline, "default", ++now_us_).assignment;
    ASSERT_TRUE(one);
    EXPECT_TRUE(prompts.insert(one->prompt).second);
    held.push_back(*one);
    offline.held.push_back(one->id);
  }
  EXPECT_FALSE(journal().next(offline, "default", ++now_us_).assignment);
  EXPECT_EQ(journal().next(rater("ann"), "default", ++now_us_).assignment->id, held[0].id);
  int left = 0;
  for (const Assignment& one : held) {
    left += one.texts[0].starts_with("first");
    answer("ann", one, kLeft);
  }
  EXPECT_EQ(left, 3);
  EXPECT_TRUE(journal().verify().empty());
}

}  // namespace
}  // namespace hone::data
