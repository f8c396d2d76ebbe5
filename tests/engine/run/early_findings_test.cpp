// What is said while a run goes on: once for each sign, and nothing of a healthy one.

#include "engine/run/early_findings.h"

#include <gtest/gtest.h>

namespace hone::engine {
namespace {

JudgedPolicy policy(double judge, double proxy, double kl, double bigrams) {
  JudgedPolicy policy;
  policy.judge = {judge - 0.01, judge + 0.01, judge};
  policy.proxy = {proxy, proxy, proxy};
  policy.other = {1.0, 1.0, 1.0};
  policy.kl = {kl, kl, kl};
  policy.length = {20, 20, 20};
  policy.statistics.distinct_bigrams = bigrams;
  policy.eos_rate = 1;
  return policy;
}

std::string said(const std::function<void()>& act) {
  testing::internal::CaptureStderr();
  act();
  return testing::internal::GetCapturedStderr();
}

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; ++at) ++found;
  return found;
}

TEST(GamingWatch, SaysEachSignOnceWithItsFigures) {
  Metrics metrics("", false);
  GamingWatch watch(metrics);
  watch.starts_from(policy(0.26, 0.0, 0.0, 0.85));
  EXPECT_EQ(said([&] { watch.look(policy(0.30, 0.5, 3.0, 0.8), 10); }), "");
  const std::string gamed = said([&] { watch.look(policy(0.13, 4.0, 11.0, 0.53), 20); });
  EXPECT_NE(gamed.find("[train] iteration 20: The reward model was gamed. Its score rose while the "
                       "independent judge's fell from 0.260 to 0.130."),
            std::string::npos)
      << gamed;
  EXPECT_NE(gamed.find("11 nats"), std::string::npos) << gamed;
  EXPECT_EQ(count(gamed, "kl_coef"), 1u) << gamed;
  const std::string collapsed = said([&] { watch.look(policy(0.13, 4.0, 11.0, 0.3), 30); });
  EXPECT_EQ(count(collapsed, "gamed"), 0u) << collapsed;
  EXPECT_EQ(count(collapsed, "The texts repeat each other"), 1u) << collapsed;
  EXPECT_EQ(count(collapsed, "kl_coef"), 0u) << collapsed;
}

TEST(GamingWatch, AHealthyRunIsSilent) {
  Metrics metrics("", false);
  GamingWatch watch(metrics);
  EXPECT_FALSE(watch.has_start());
  watch.starts_from(policy(0.40, 0.0, 0.0, 0.67));
  EXPECT_TRUE(watch.has_start());
  for (int look = 1; look <= 4; ++look) {
    EXPECT_EQ(said([&] { watch.look(policy(0.40 + 0.06 * look, look, 3, 0.55), look); }), "");
  }
}

TEST(SayFindings, WithTheFiguresThatAreThere) {
  Metrics metrics("", false);
  const auto line = said([&] {
    say_findings(metrics, "[reward]",
                 {{"reward.pair_accuracy", 0.647}, {"reward.bow_accuracy", 0.748}, {"name", "x"}});
  });
  EXPECT_EQ(line,
            "[reward] Reward model below a bag of words. It orders 64.7\u00A0% of unseen pairs as "
            "people did; counting words does 74.8\u00A0%.\n");
  EXPECT_EQ(said([&] { say_findings(metrics, "[reward]", nlohmann::json::object()); }), "");
}

}  // namespace
}  // namespace hone::engine
