// Exports of what people answered at the page: sealed or not, by project, reviews too.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "data/exchange.h"
#include "data/journal/journal.h"
#include "tests/data/journal_fixture.h"

namespace hone::data {
namespace {

using nlohmann::json;

class ExportCollected : public JournalFixture {
 protected:
  void SetUp() override { open(); }

  void ask_and_answer(const std::string& name) {
    Project project = plain_project();
    project.id = name;
    journal().put_project(project, now_us_);
    Question pair, review;
    pair.project = review.project = name;
    pair.id = name + "-pair";
    pair.prompt = "P " + name;
    pair.candidates = {{"a", "first " + name, "", ""}, {"b", "second " + name, "", ""}};
    review.id = name + "-review";
    review.kind = QuestionKind::kReview;
    review.prompt = "R " + name;
    review.candidates = {{"a", "output " + name, "", ""}};
    journal().add_questions({pair, review}, now_us_);
    while (const auto one = journal().next(rater("ann"), name, ++now_us_).assignment) {
      const bool is_pair = one->kind == QuestionKind::kPairwise;
      // The right one is preferred.
      answer("ann", *one,
             is_pair ? R"({"outcome":"ordered","ranks":[1,0]})"
                     : R"({"outcome":"reviewed","approved":false})");
      if (is_pair) better_[name] = one->texts[1];
    }
  }
  std::vector<json> exported(const std::string& format, const ExportFilter& filter = {}) {
    const auto path = directory_ / "out.jsonl";
    export_file(Store::open(store()), format, path, filter);
    std::istringstream lines(slurp(path));
    std::vector<json> all;
    for (std::string line; std::getline(lines, line);) all.push_back(json::parse(line));
    return all;
  }
  void expect_both_projects() {
    const auto pairs = exported("trl-preference");
    ASSERT_EQ(pairs.size(), 2u);
    EXPECT_EQ(pairs[0]["prompt"], "P one");
    EXPECT_EQ(pairs[0]["chosen"], better_["one"]);
    EXPECT_EQ(pairs[1]["chosen"], better_["two"]);
    const auto labels = exported("trl-kto");
    ASSERT_EQ(labels.size(), 6u);
    EXPECT_EQ(labels[4],
              (json{{"prompt", "R one"}, {"completion", "output one"}, {"label", false}}));
    ExportFilter filter;
    filter.project = "two";
    ASSERT_EQ(exported("trl-preference", filter).size(), 1u);
    EXPECT_EQ(exported("trl-preference", filter)[0]["chosen"], better_["two"]);
    ASSERT_EQ(exported("trl-kto", filter).size(), 3u);
    filter.kinds = {"review"};
    ASSERT_EQ(exported("trl-kto", filter).size(), 1u);
    EXPECT_EQ(exported("trl-kto", filter)[0]["completion"], "output two");
    filter.project = "three";
    EXPECT_TRUE(exported("trl-kto", filter).empty());
  }

  std::map<std::string, std::string> better_;
};

TEST_F(ExportCollected, SealedOrNot) {
  ask_and_answer("one");
  ask_and_answer("two");
  expect_both_projects();  // nothing is sealed
  now_us_ += 3600 * int64_t{1'000'000};
  ASSERT_TRUE(journal().seal(now_us_).has_value());
  expect_both_projects();
  const std::string csv = [&] {
    export_file(Store::open(store()), "csv", directory_ / "out.csv");
    return slurp(directory_ / "out.csv");
  }();
  EXPECT_NE(csv.find("\r\nreview,"), std::string::npos);
  EXPECT_NE(csv.find(",approved,0,"), std::string::npos);
}

}  // namespace
}  // namespace hone::data
