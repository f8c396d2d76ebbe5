// What the manager's page shows, from answers with a known truth.

#include "data/service/overview.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "data/quality/alpha.h"

namespace hone::data::service {
namespace {

using Json = nlohmann::json;

class OverviewTest : public ::testing::Test {
 protected:
  JournalAnswer& say(const std::string& rater, const std::string& question, const std::string& body,
                     std::vector<uint8_t> shown = {0, 1}, const std::string& kind = "pairwise") {
    JournalAnswer answer;
    answer.sequence = static_cast<int64_t>(answers_.size()) + 1;
    answer.rater = rater;
    answer.question = question;
    answer.kind = kind;
    answer.body = body;
    answer.shown = std::move(shown);
    answer.served_us = 1'000'000;
    answer.answered_us = 1'000'000 + 2'000'000 * answer.sequence;
    return answers_.emplace_back(std::move(answer));
  }

  Json overview(const std::vector<std::string>& dimensions = {}) {
    seen_.clear();
    for (const auto& answer : answers_) seen_.push_back(see(answer));
    std::vector<const SeenAnswer*> all;
    for (const auto& one : seen_) {
      if (!one.undone) all.push_back(&one);
    }
    return overview_of(all, dimensions, 1);
  }

  static Json of(const Json& overview, const std::string& rater, const char* list = "raters") {
    for (const auto& each : overview[list]) {
      if (each["pseudonym"] == rater) return each;
    }
    return nullptr;
  }

  std::vector<JournalAnswer> answers_;
  std::vector<SeenAnswer> seen_;
};

const std::string kLeft = R"({"outcome":"ordered","ranks":[0,1],"strength":2})";
const std::string kRight = R"({"outcome":"ordered","ranks":[1,0]})";

TEST_F(OverviewTest, CountsWhatWasSaidByCandidate) {
  say("ann", "q1", kLeft);
  say("bob", "q1", kRight, {1, 0});  // the same candidate
  say("ann", "q2", kLeft);
  say("bob", "q2", kLeft, {1, 0});  // another
  say("ann", "q3", R"({"outcome":"ordered","ranks":[0,0]})");
  say("bob", "q3", R"({"outcome":"skipped","reason":"x"})");
  say("ann", "q1", kRight, {1, 0}).repeat = true;  // as before
  say("ann", "q2", kLeft, {1, 0}).repeat = true;   // not as before
  say("ann", "q9", kLeft).undone = true;
  say("bob", "g", R"({"outcome":"skipped","reason":"x"})").gold = true;  // not wrong: not tried
  say("bob", "g2", kLeft).gold = true;
  const Json found = overview(), ann = of(found, "ann"), bob = of(found, "bob");
  EXPECT_EQ(ann["answers"], 5);
  EXPECT_EQ(ann["ties"], 1);
  EXPECT_EQ(ann["repeats"]["of"], 2);
  EXPECT_EQ(ann["repeats"]["same"], 1);
  EXPECT_EQ(ann["position"]["of"], 4);
  EXPECT_EQ(ann["position"]["left"], 3);
  EXPECT_EQ(ann["median_seconds"], 10.0);
  EXPECT_EQ(ann["others"]["of"], 2);
  EXPECT_EQ(ann["others"]["same"], 1);
  EXPECT_EQ(bob["skips"], 2);
  EXPECT_EQ(bob["gold"]["of"], 1);
  EXPECT_EQ(bob["gold"]["right"], 0);
  EXPECT_EQ(found["days"].size(), 1u);
  EXPECT_EQ(found["days"][0]["answers"], 10);
}

TEST_F(OverviewTest, AgreementDoesNotDependOnWhichCandidateIsNamedFirst) {
  // Everybody says the same, and the better one is always the first of the question.
  for (int q = 0; q < 200; ++q) {
    for (const char* rater : {"ann", "bob"}) {
      const std::string strength = q % 5 == 0 && rater[0] == 'a' ? "1" : "3";
      say(rater, "q" + std::to_string(q),
          R"({"outcome":"ordered","ranks":[0,1],"strength":)" + strength + "}");
    }
  }
  const Json agreement = overview()["agreement"];
  ASSERT_EQ(agreement.size(), 1u);
  EXPECT_EQ(agreement[0]["distance"], "ordinal");
  EXPECT_GT(agreement[0]["alpha"], 0.9);
  EXPECT_EQ(agreement[0]["questions"], 200);
}

TEST_F(OverviewTest, EachDimensionAndKindHasItsAgreement) {
  std::mt19937 random(4);
  std::vector<quality::Coding> helpful;
  for (int q = 0; q < 30; ++q) {
    const std::string id = "q" + std::to_string(q);
    for (const char* rater : {"ann", "bob", "carl"}) {
      const int value = 1 + (q + static_cast<int>(random() % 2)) % 7;
      helpful.push_back({q, static_cast<double>(value)});
      say(rater, id,
          Json{{"outcome", "rated"},
               {"ratings", {{{"helpful", value}, {"true", 1 + random() % 5}}}}}
              .dump(),
          {0}, "rating");
      say(rater, "s" + id,
          Json{{"outcome", "marked"},
               {"steps", {{{"position", 0}, {"step", 0}, {"value", q % 3 - 1}}}}}
              .dump(),
          {0}, "steps");
    }
  }
  const Json agreement = overview({"helpful", "true"})["agreement"];
  ASSERT_EQ(agreement.size(), 3u);
  for (const auto& each : agreement) {
    if (each["kind"] == "steps") {
      EXPECT_EQ(each["alpha"], 1.0);
    } else if (each["dimension"] == "helpful") {
      EXPECT_NEAR(each["alpha"],
                  quality::krippendorff_alpha(helpful, quality::Distance::kInterval, 0).value,
                  1e-12);
    } else {
      EXPECT_EQ(each["dimension"], "true");
      EXPECT_LT(each["alpha"], 0.3);
    }
  }
}

TEST_F(OverviewTest, ARaterWhoBecomesCarelessIsFoundAndTheOthersAreNot) {
  std::mt19937 random(8);
  constexpr int kQuestions = 240;
  for (int q = 0; q < kQuestions; ++q) {
    const bool truth = random() % 2 == 0;
    for (const char* rater : {"ann", "bob", "carl", "eve", "new"}) {
      const bool careless = std::string(rater) == "eve" && q >= kQuestions / 2;
      if (std::string(rater) == "new" && q >= 20) continue;
      const bool right = random() % 100 < (careless ? 50 : 92);
      auto& answer = say(rater, "q" + std::to_string(q), right == truth ? kLeft : kRight);
      answer.client = Json{{"visible_ms", careless ? 900 : 5000}}.dump();
      answer.gold = q % 2 == 0;
      answer.gold_right = right;
    }
  }
  const Json found = overview();
  EXPECT_EQ(found["drift"].size(), 4u);  // "new" has said too little
  const Json eve = found["drift"][0];
  EXPECT_EQ(eve["pseudonym"], "eve");
  EXPECT_EQ(eve["changed"], (Json{"others", "gold", "seconds"}));
  EXPECT_EQ(eve["blocks"].size(), 12u);
  int64_t answers = 0;
  for (const auto& block : eve["blocks"]) answers += block["answers"].get<int64_t>();
  EXPECT_EQ(answers, kQuestions);
  EXPECT_GT(eve["blocks"][0]["others"]["same"], eve["blocks"][11]["others"]["same"]);
  EXPECT_FLOAT_EQ(eve["blocks"][11]["median_seconds"], 0.9F);
  for (const char* rater : {"ann", "bob", "carl"}) {
    EXPECT_TRUE(of(found, rater, "drift")["changed"].empty()) << rater;
  }
}

}  // namespace
}  // namespace hone::data::service
