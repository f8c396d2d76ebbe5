#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "experiments/experiment.h"
#include "experiments/markov_task.h"

namespace hone::experiments {
namespace {

// Every text of a task small enough to list: an oracle that shares nothing with the recursions.
struct Enumerated {
  double log_partition = 0;   // beta log sum_y ref(y) exp(r(y) / beta)
  double reward = 0, kl = 0;  // of the tilted distribution
};

Enumerated enumerate(const MarkovTask& task) {
  const int64_t v = task.vocabulary(), length = task.length();
  std::vector<double> weights, rewards, log_refs;
  int64_t texts = 1;
  for (int64_t t = 0; t < length; ++t) texts *= v;
  for (int64_t text = 0; text < texts; ++text) {
    double reward = 0, log_ref = 0;
    int64_t rest = text, previous = 0;
    for (int64_t t = 0; t < length; ++t, rest /= v) {
      const int64_t action = rest % v, state = t * v + previous;
      reward += task.rewards()[state][action].item<double>();
      log_ref += task.reference()[state][action].item<double>();
      previous = action;
    }
    rewards.push_back(reward);
    log_refs.push_back(log_ref);
    weights.push_back(std::exp(log_ref + reward / task.beta()));
  }
  double total = 0;
  for (const double weight : weights) total += weight;
  Enumerated result;
  result.log_partition = task.beta() * std::log(total);
  for (size_t i = 0; i < weights.size(); ++i) {
    const double p = weights[i] / total;
    result.reward += p * rewards[i];
    result.kl += p * (std::log(p) - log_refs[i]);
  }
  return result;
}

TEST(MarkovTaskTest, DynamicProgramsAgreeWithListingEveryText) {
  const MarkovTask task(3, 4, 0.3, 5);
  const auto listed = enumerate(task);
  const auto exact = task.evaluate(task.optimum());
  EXPECT_NEAR(task.optimal_objective(), listed.log_partition, 1e-9);
  EXPECT_NEAR(exact.reward, listed.reward, 1e-9);
  EXPECT_NEAR(exact.kl, listed.kl, 1e-9);
  EXPECT_NEAR(exact.objective(0.3), listed.log_partition, 1e-9);
}

TEST(MarkovTaskTest, TheReferenceHasNoKlAndIsNotOptimal) {
  const MarkovTask task(12, 10, 0.3, 0);
  const auto figures = task.evaluate(task.reference());
  EXPECT_NEAR(figures.kl, 0.0, 1e-12);
  EXPECT_LT(figures.objective(0.3), task.optimal_objective() - 0.5);
}

// A tenth of the updates: far from converged, yet every bug already shows against its line.
TEST(ExactOptimumTest, ShortFormSeparatesRightFromWrong) {
  const auto result = exact_optimum({.seed = 0, .scale = 0.15});
  ASSERT_EQ(result.columns.back(), "gap %");
  for (const auto& row : result.rows) {
    const double gap = row.figures.back();
    if (row.name.rfind("PPO", 0) == 0) {
      EXPECT_LT(gap, 1.0) << row.name;
    } else if (row.name.rfind("GRPO", 0) == 0 || row.name == "CISPO" || row.name == "SAPO") {
      EXPECT_LT(gap, 2.0) << row.name;
    } else if (row.name.rfind("bug", 0) == 0 && !row.expected.empty()) {
      EXPECT_GT(gap, 15.0) << row.name;
    }
  }
  EXPECT_NE(result.table().find("variant"), std::string::npos);
  EXPECT_EQ(result.json()["rows"].size(), result.rows.size());
}

}  // namespace
}  // namespace hone::experiments
