// What the report says about a run, and that it says nothing when there is nothing to say.

#include "engine/report/findings.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <tuple>

namespace hone::engine::report {
namespace {

RunFiles run_with(const std::vector<std::pair<std::string, double>>& changes) {
  // A healthy run of the main job.
  const std::vector<std::pair<std::string, double>> figures = {
      {"judge.before", 0.30},        {"judge.after", 0.39},     {"judge.stderr_before", 0.009},
      {"judge.stderr_after", 0.012}, {"judge.people", 0.41},    {"proxy.before", 0.0},
      {"proxy.after", 1.0},          {"other.before", 0.7},     {"other.after", 1.6},
      {"diversity.before", 0.7},     {"diversity.after", 0.57}, {"copied.before", 0.0},
      {"copied.after", 0.03},        {"length.before", 20},     {"length.after", 15},
      {"eos.after", 0.99},           {"policy.kl", 3.0},        {"reward.pair_accuracy", 0.73},
      {"reward.bow_accuracy", 0.72}, {"reward.ece", 0.02}};
  RunFiles run;
  for (const auto* list : {&figures, &changes}) {
    for (const auto& [key, value] : *list) run.summary.set({key, "", value});
  }
  return run;
}

TEST(Verdict, AHealthyRunHasImprovedAndNothingSmells) {
  const Verdict verdict = judge_run(run_with({}));
  EXPECT_EQ(verdict.badge, "Improved");
  EXPECT_EQ(verdict.severity, Severity::kGood);
  EXPECT_TRUE(verdict.findings.empty());
  EXPECT_NE(verdict.sentence.find("6.0 combined standard errors"), std::string::npos)
      << verdict.sentence;
}

TEST(Verdict, CombinedErrorsAddInSquares) {
  EXPECT_DOUBLE_EQ(*combined_errors(run_with({}).summary, "judge"), 0.09 / 0.015);
  EXPECT_FALSE(combined_errors(run_with({}).summary, "proxy"));
  EXPECT_FALSE(combined_errors(
      run_with({{"judge.stderr_before", 0}, {"judge.stderr_after", 0}}).summary, "judge"));
}

TEST(Verdict, TextsThatWereNoMoreVariedBeforeAreNoFinding) {
  EXPECT_TRUE(judge_run(run_with({{"diversity.before", 0.47}, {"diversity.after", 0.48}}))
                  .findings.empty());
}

TEST(Verdict, AFewLongTextsAreNoFinding) {
  EXPECT_TRUE(judge_run(run_with({{"data.cut_texts", 0.04},
                                  {"data.text_limit", 56},
                                  {"data.text_tokens", 63},
                                  {"data.cut_answers", 0.2},
                                  {"data.answer_limit", 36},
                                  {"data.answer_tokens", 57}}))
                  .findings.empty());
}

TEST(Verdict, AChangeWithinTheNoiseIsNotCalledARise) {
  const auto sentence = judge_run(run_with({{"judge.after", 0.31}})).sentence;
  EXPECT_NE(sentence.find("did not clearly change the independent judge's score"),
            std::string::npos)
      << sentence;
}

struct Smell {
  const char* name;
  std::vector<std::pair<std::string, double>> figures;
  const char* title;
  Severity severity;
  const char* badge;
};

class SmellTest : public ::testing::TestWithParam<Smell> {};

TEST_P(SmellTest, IsTheOnlyFinding) {
  const Verdict verdict = judge_run(run_with(GetParam().figures));
  ASSERT_EQ(verdict.findings.size(), 1u);
  EXPECT_EQ(verdict.findings[0].title, GetParam().title);
  EXPECT_EQ(verdict.findings[0].severity, GetParam().severity);
  EXPECT_EQ(verdict.badge, GetParam().badge);
}

INSTANTIATE_TEST_SUITE_P(
    Each, SmellTest,
    ::testing::Values(
        Smell{"few_bigrams",
              {{"diversity.after", 0.45}},
              "The texts repeat each other",
              Severity::kWarn,
              "Improved"},
        Smell{"halved",
              {{"diversity.before", 1.0}, {"diversity.after", 0.5}},
              "The texts repeat each other",
              Severity::kBad,
              "Collapsed"},
        Smell{"very_few",
              {{"diversity.before", 0.4}, {"diversity.after", 0.3}},
              "The texts repeat each other",
              Severity::kBad,
              "Collapsed"},
        Smell{
            "kl", {{"policy.kl", 10.1}}, "Far from where it started", Severity::kWarn, "Improved"},
        Smell{"large_kl",
              {{"policy.kl", 22}},
              "Far from where it started",
              Severity::kBad,
              "Collapsed"},
        Smell{"copied", {{"copied.after", 0.051}}, "Copied phrases", Severity::kWarn, "Improved"},
        Smell{"longer", {{"length.after", 28.1}}, "Much longer texts", Severity::kWarn, "Improved"},
        Smell{
            "shorter", {{"length.after", 11.9}}, "Much shorter texts", Severity::kWarn, "Improved"},
        Smell{
            "endless", {{"eos.after", 0.4}}, "Texts that do not end", Severity::kWarn, "Improved"},
        Smell{"above_people",
              {{"judge.people", 0.38}},
              "More positive than people's own texts, be suspicious",
              Severity::kWarn,
              "Improved"},
        Smell{"noise",
              {{"judge.after", 0.31}},
              "Within the noise",
              Severity::kWarn,
              "No clear change"},
        Smell{
            "gamed", {{"judge.after", 0.2}}, "The reward model was gamed", Severity::kBad, "Gamed"},
        Smell{"other_fell",
              {{"other.after", 0.6}},
              "Other people's taste disagrees",
              Severity::kBad,
              "Gamed"},
        Smell{"below_words",
              {{"reward.bow_accuracy", 0.74}},
              "Reward model below a bag of words",
              Severity::kWarn,
              "Improved"},
        Smell{"chance",
              {{"reward.pair_accuracy", 0.53}, {"reward.bow_accuracy", 0.5}},
              "Reward model near chance",
              Severity::kWarn,
              "Improved"},
        Smell{"few_judgements",
              {{"reward.held_out_judgements", 5},
               {"reward.pair_accuracy", 0.2},
               {"reward.bow_accuracy", 0.5},
               {"reward.ece", 0.4}},
              "Reward model hardly measured",
              Severity::kWarn,
              "Improved"},
        Smell{"no_judgements",
              {{"reward.held_out_judgements", 0}},
              "Reward model not measured",
              Severity::kWarn,
              "Improved"},
        Smell{"one_prompt",
              {{"evaluate.prompts", 1}, {"judge.stderr_before", NAN}, {"judge.stderr_after", NAN}},
              "Within the noise",
              Severity::kWarn,
              "No clear change"},
        Smell{"cut_texts",
              {{"data.cut_texts", 0.6}, {"data.text_limit", 56}, {"data.text_tokens", 139}},
              "Texts are cut",
              Severity::kWarn,
              "Improved"},
        Smell{"cut_answers",
              {{"data.cut_answers", 0.7}, {"data.answer_limit", 36}, {"data.answer_tokens", 127}},
              "Answers are cut",
              Severity::kWarn,
              "Improved"},
        Smell{"calibration",
              {{"reward.ece", 0.08}},
              "Poorly calibrated reward model",
              Severity::kWarn,
              "Improved"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Verdict, ACollapseIsSaidBeforeTheScore) {
  const Verdict verdict =
      judge_run(run_with({{"judge.after", 0.97}, {"diversity.after", 0.09}, {"policy.kl", 68}}));
  EXPECT_EQ(verdict.sentence.rfind("Do not use this policy: its texts have collapsed", 0), 0u);
  EXPECT_NE(verdict.sentence.find("is not an improvement"), std::string::npos);
  EXPECT_TRUE(
      std::is_sorted(verdict.findings.begin(), verdict.findings.end(),
                     [](const Finding& a, const Finding& b) { return a.severity > b.severity; }));
  EXPECT_EQ(verdict.about("diversity"), Severity::kBad);
  EXPECT_EQ(verdict.about("length"), Severity::kNote);
}

TEST(Verdict, AWorsePolicyIsNotCalledImproved) {
  const Verdict verdict = judge_run(run_with({{"judge.after", 0.2}, {"proxy.after", -0.1}}));
  EXPECT_EQ(verdict.badge, "Worse");
}

TEST(Verdict, WhatDoesNotVaryIsWorseOnlyWhenItFell) {
  for (const auto& [after, badge, word] :
       {std::tuple{0.3, "No clear change", "did not clearly"},
        std::tuple{0.31, "Improved", "raised"}, std::tuple{0.29, "Worse", "lowered"}}) {
    const Verdict verdict = judge_run(run_with({{"judge.after", after},
                                                {"judge.stderr_before", 0},
                                                {"judge.stderr_after", 0},
                                                {"proxy.after", -0.1}}));
    EXPECT_EQ(verdict.badge, badge);
    EXPECT_NE(verdict.sentence.find(word), std::string::npos) << verdict.sentence;
  }
}

TEST(Verdict, OneIsOne) {
  const auto sentence = judge_run(run_with({{"evaluate.prompts", 1}})).sentence;
  EXPECT_NE(sentence.find("on 1 held-out prompt,"), std::string::npos) << sentence;
}

TEST(Verdict, WithoutFiguresItSaysSo) {
  const Verdict verdict = judge_run(RunFiles{});
  EXPECT_EQ(verdict.sentence, "This run has no figures yet.");
  EXPECT_EQ(verdict.badge, "Not finished");
  EXPECT_TRUE(verdict.findings.empty());
}

TEST(Verdict, FiguresThatAreNotFiniteDoNotBreakIt) {
  const Verdict verdict = judge_run(run_with({{"judge.after", NAN}, {"policy.kl", INFINITY}}));
  EXPECT_FALSE(verdict.sentence.empty());
}

}  // namespace
}  // namespace hone::engine::report
