#pragma once

// A journal in a fresh store with a clock of its own.

#include <string>
#include <vector>

#include "data/journal/journal.h"
#include "tests/data/temporary_directory.h"

namespace hone::data {

inline Question pair(const std::string& id, const std::string& project = "default") {
  Question question;
  question.id = id;
  question.project = project;
  question.prompt = "prompt of " + id;
  question.candidates = {{"c-" + id + "-0", "first answer of " + id, "policy-a", "{\"t\":1}"},
                         {"c-" + id + "-1", "second answer of " + id, "policy-b", ""}};
  question.group = "group of " + id;
  return question;
}

inline std::vector<Question> pairs(int count, int from = 0) {
  std::vector<Question> questions;
  for (int i = 0; i < count; ++i) questions.push_back(pair("q" + std::to_string(from + i)));
  return questions;
}

/// A project without dwell times, gold or repeats: what a test wants of them, it says.
inline Project plain_project(int64_t overlap = 1) {
  Project project;
  project.guideline = "Read both.";
  project.overlap = overlap;
  project.dwell_ms = project.dwell_ms_per_100_chars = 0;
  project.repeat_share = 0;
  project.rationale_share = 0;
  return project;
}

class JournalFixture : public ::testing::Test {
 protected:
  void open() { journal_.emplace(Journal::open(store())); }
  void reopen() {
    journal_.reset();
    open();
  }
  std::filesystem::path store() const { return directory_ / "store"; }
  Journal& journal() { return *journal_; }

  static RaterRef rater(const std::string& name, bool expert = false) {
    return {
        .pseudonym = name, .expert = expert, .languages = {}, .session = "s-" + name, .held = {}};
  }
  std::optional<Assignment> next(const std::string& name, bool expert = false) {
    return journal().next(rater(name, expert), "default", ++now_us_).assignment;
  }
  NoQuestion why(const std::string& name) {
    const auto result = journal().next(rater(name), "default", ++now_us_);
    EXPECT_FALSE(result.assignment);
    return result.why;
  }
  Receipt answer(const std::string& name, const Assignment& assignment, const std::string& body,
                 const std::string& key = "") {
    AnswerRequest request;
    request.assignment = assignment.id;
    request.token = assignment.token;
    request.body = body;
    request.client = R"({"visible_ms":5,"submit_ms":9,"seen":[3,4],"device":"desktop"})";
    request.idempotency_key = key.empty() ? "key-" + std::to_string(++keys_) : key;
    return journal().submit(rater(name), request, ++now_us_);
  }
  /// Takes a question and prefers what stands on the left.
  std::optional<Receipt> work(const std::string& name) {
    const auto assignment = next(name);
    if (!assignment) return std::nullopt;
    return answer(name, *assignment, kLeft);
  }

  static constexpr const char* kLeft = R"({"outcome":"ordered","ranks":[0,1],"strength":3})";
  static constexpr const char* kRight = R"({"outcome":"ordered","ranks":[1,0],"strength":1})";
  static constexpr const char* kTie = R"({"outcome":"ordered","ranks":[0,0]})";
  static constexpr const char* kSkip = R"({"outcome":"skipped","reason":"unknown words"})";
  static constexpr const char* kFlag = R"({"outcome":"flagged","flags":["unsafe"]})";

  TemporaryDirectory directory_;
  std::optional<Journal> journal_;
  int64_t now_us_ = 1'700'000'000'000'000;
  int keys_ = 0;
};

}  // namespace hone::data
