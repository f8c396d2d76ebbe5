#include "experiments/selection_loop.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace hone::experiments {
namespace {

/// The experiment's kind of pool, small: four of five pairs are of two answers nearly alike.
SelectionLoop small_loop(unsigned seed) {
  constexpr int64_t kPairs = 600, kSize = 10;
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  SelectionLoop loop;
  loop.features = at::empty({kPairs, kSize}, at::kDouble);
  const at::Tensor gold = at::zeros({kSize}, at::kDouble);
  gold[0] = 0.6;
  gold[1] = -0.8;
  std::vector<double> answers;
  for (int64_t p = 0; p < kPairs; ++p) {
    const double distance = p % 5 == 0 ? 1.4 : 0.1;
    double z = 0;
    for (int64_t k = 0; k < kSize; ++k) {
      const double x = distance * normal(random);
      loop.features[p][k] = x;
      z += 4 * x * gold[k].item<double>();
    }
    answers.push_back(uniform(random) < 1 / (1 + std::exp(-z)) ? 1.0 : 0.0);
    loop.pool.push_back({p, -1});
  }
  loop.answer = [answers](size_t pair) { return answers[pair]; };
  loop.judge = [gold](const at::Tensor& head) {
    return ((head * gold).sum() / head.norm()).item<double>();
  };
  loop.batch = 10;
  loop.labels = 60;
  return loop;
}

TEST(SelectionLoopTest, ChoosingByWhatAnAnswerTeachesLearnsMore) {
  std::vector<double> ends(selection_variants().size(), 0.0);
  const auto learned = {kVarianceVariant, kDOptimalVariant, kDefaultVariant};
  for (unsigned seed = 0; seed < 2; ++seed) {
    const auto loop = small_loop(seed);
    const auto run = [&](size_t v) {
      const auto curve = run_selection(loop, selection_variants()[v], seed);
      EXPECT_EQ(curve.size(), 6u);
      ends[v] += curve.back() / 2;
    };
    run(kRandomVariant);
    for (const size_t v : learned) run(v);
  }
  for (const size_t v : learned) {
    EXPECT_GT(ends[v], ends[kRandomVariant] + 0.1) << selection_variants()[v].name;
  }
}

TEST(SelectionLoopTest, TheSameSeedGivesTheSameCurve) {
  const auto loop = small_loop(4);
  const auto& variant = selection_variants()[kDefaultVariant];
  EXPECT_EQ(run_selection(loop, variant, 1), run_selection(loop, variant, 1));
  EXPECT_NE(run_selection(loop, variant, 1), run_selection(loop, variant, 2));
}

TEST(LabelsSavedTest, AreReadOffTheMeanCurves) {
  const Curves random = {{0.5, 0.6, 0.7, 0.8}, {0.5, 0.6, 0.7, 0.8}};
  // The mean passes 0.8 half way from 0.7 (10 labels) to 0.9 (20): after 15 of 40.
  const Curves better = {{0.72, 0.92, 0.9, 0.9}, {0.68, 0.88, 0.9, 0.9}};
  const auto saved = labels_saved(better, random, 10);
  EXPECT_NEAR(saved.labels, 15, 1e-9);
  EXPECT_NEAR(saved.share.mean, 1 - 15.0 / 40, 1e-12);
  // Without the one seed 16 labels, without the other 14: two values 2 / 40 apart.
  EXPECT_NEAR(saved.share.error, 0.5 * 2.0 / 40, 1e-12);
  const auto never = labels_saved({{0.5, 0.5, 0.5, 0.7}, {0.5, 0.5, 0.5, 0.7}}, random, 10);
  EXPECT_NEAR(never.labels, 50, 1e-12);
  EXPECT_NEAR(never.share.mean, -0.25, 1e-12);
  EXPECT_NEAR(labels_saved(random, random, 10).share.mean, 0, 1e-12);
}

}  // namespace
}  // namespace hone::experiments
