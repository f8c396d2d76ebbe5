#include "reward/posterior.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "data/error.h"

namespace hone::reward {
namespace {

using Matrix = std::vector<std::vector<double>>;

/// Gauss and Jordan, with pivots: shares nothing with LAPACK.
Matrix inverted(Matrix a) {
  const size_t n = a.size();
  Matrix b(n, std::vector<double>(n, 0.0));
  for (size_t i = 0; i < n; ++i) b[i][i] = 1.0;
  for (size_t c = 0; c < n; ++c) {
    size_t pivot = c;
    for (size_t r = c; r < n; ++r) {
      if (std::abs(a[r][c]) > std::abs(a[pivot][c])) pivot = r;
    }
    std::swap(a[c], a[pivot]);
    std::swap(b[c], b[pivot]);
    const double scale = a[c][c];
    for (size_t k = 0; k < n; ++k) a[c][k] /= scale, b[c][k] /= scale;
    for (size_t r = 0; r < n; ++r) {
      if (r == c) continue;
      const double factor = a[r][c];
      for (size_t k = 0; k < n; ++k) a[r][k] -= factor * a[c][k], b[r][k] -= factor * b[c][k];
    }
  }
  return b;
}

struct Task {
  at::Tensor features;
  std::vector<JudgedPair> judged;
};

Task random_task(int64_t texts, int64_t size, int pairs, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  Task task{at::zeros({texts, size}, at::kDouble), {}};
  for (int64_t i = 0; i < texts * size; ++i) task.features.data_ptr<double>()[i] = normal(random);
  for (int p = 0; p < pairs; ++p) {
    const auto a = static_cast<int64_t>(random() % texts);
    const auto b = (a + 1 + static_cast<int64_t>(random() % (texts - 1))) % texts;
    task.judged.push_back({{a, b}, (random() % 3) / 2.0, 1.0 + random() % 3});
  }
  return task;
}

double at_of(const at::Tensor& t, int64_t i, int64_t j) { return t[i][j].item<double>(); }

/// Features of one pair's difference, element by element.
std::vector<double> difference(const Task& task, const FeaturePair& pair) {
  std::vector<double> x;
  for (int64_t k = 0; k < task.features.size(1); ++k) {
    x.push_back(at_of(task.features, pair.first, k) -
                (pair.second < 0 ? 0.0 : at_of(task.features, pair.second, k)));
  }
  return x;
}

double sigmoid(double z) { return 1.0 / (1.0 + std::exp(-z)); }

TEST(PosteriorTest, PrecisionAndVarianceAreThoseOfDoubleLoops) {
  const auto task = random_task(12, 5, 40, 1);
  const auto posterior = Posterior::fit(task.features, task.judged, 0.7);
  std::vector<double> w;
  for (int64_t k = 0; k < 5; ++k) w.push_back(posterior.mean()[k].item<double>());
  Matrix h(5, std::vector<double>(5, 0.0));
  std::vector<double> gradient(5, 0.0);
  for (size_t i = 0; i < 5; ++i) h[i][i] = 0.7, gradient[i] = 0.7 * w[i];
  for (const auto& one : task.judged) {
    const auto x = difference(task, one.pair);
    double z = 0;
    for (size_t k = 0; k < 5; ++k) z += w[k] * x[k];
    const double p = sigmoid(z);
    for (size_t i = 0; i < 5; ++i) {
      gradient[i] += one.weight * (p - one.target) * x[i];
      for (size_t j = 0; j < 5; ++j) h[i][j] += one.weight * p * (1 - p) * x[i] * x[j];
    }
  }
  const auto covariance = inverted(h);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_NEAR(gradient[i], 0.0, 1e-6) << "the mode";
    for (size_t j = 0; j < 5; ++j) {
      EXPECT_NEAR(at_of(posterior.precision(), i, j), h[i][j], 1e-9);
      EXPECT_NEAR(at_of(posterior.covariance(), i, j), covariance[i][j], 1e-10);
    }
  }
  const std::vector<FeaturePair> pairs = {{0, 1}, {7, 3}, {4, -1}};
  const auto beliefs = posterior.beliefs(task.features, pairs);
  for (size_t p = 0; p < pairs.size(); ++p) {
    const auto x = difference(task, pairs[p]);
    double mean = 0, variance = 0;
    for (size_t i = 0; i < 5; ++i) {
      mean += w[i] * x[i];
      for (size_t j = 0; j < 5; ++j) variance += x[i] * covariance[i][j] * x[j];
    }
    EXPECT_NEAR(beliefs[p].mean, mean, 1e-12);
    EXPECT_NEAR(beliefs[p].variance, variance, 1e-10);
    EXPECT_NEAR(beliefs[p].probability, sigmoid(mean / std::sqrt(1 + M_PI * variance / 8)), 1e-10);
    EXPECT_NEAR(beliefs[p].information, sigmoid(mean) * (1 - sigmoid(mean)), 1e-12);
  }
}

TEST(PosteriorTest, RankOneUpdatesAreThePosteriorOfAllPairs) {
  const auto task = random_task(30, 8, 25, 2);
  const at::Tensor head = at::linspace(-1, 1, 8, at::kDouble);
  auto updated = Posterior(head, at::eye(8, at::kDouble) * 2.0);
  for (const auto& one : task.judged) {
    const at::Tensor x = feature_difference(task.features, one.pair);
    const double z = (x * head).sum().item<double>();
    updated.add(x, one.weight * updated.likelihood().information(z));
  }
  const at::Tensor whole =
      at::eye(8, at::kDouble) * 2.0 + fisher_information(task.features, task.judged, head, {});
  EXPECT_LT((updated.precision() - whole).abs().max().item<double>(), 1e-10);
  EXPECT_LT((updated.covariance() - Posterior(head, whole).covariance()).abs().max().item<double>(),
            1e-11);
}

// The information of each likelihood is minus the expected second derivative of its logarithm.
TEST(PosteriorTest, InformationIsTheExpectedCurvature) {
  using kernels::math::PreferenceModel;
  using Params = kernels::math::PreferenceParams<double>;
  for (const auto& params :
       {Params{PreferenceModel::kBradleyTerry, 0.0, 0.0},
        Params{PreferenceModel::kBradleyTerry, 0.0, 0.1},
        Params{PreferenceModel::kDavidson, 0.8, 0.0}, Params{PreferenceModel::kDavidson, 0.8, 0.07},
        Params{PreferenceModel::kRaoKupper, 1.6, 0.0},
        Params{PreferenceModel::kRaoKupper, 1.6, 0.03}}) {
    const PairLikelihood likelihood(params);
    for (const double z : {-2.5, -0.3, 0.0, 1.7}) {
      std::vector<double> outcomes = {1.0, 0.0};
      if (params.model != PreferenceModel::kBradleyTerry) outcomes.push_back(0.5);
      double expected = 0, total = 0;
      for (const double outcome : outcomes) {
        const auto nll = [&](double at) {
          return kernels::math::preference_nll(at, outcome, params).value;
        };
        const double h = 1e-4, p = std::exp(-nll(z));
        total += p;
        expected += p * (nll(z + h) - 2 * nll(z) + nll(z - h)) / (h * h);
      }
      EXPECT_NEAR(total, 1.0, 1e-12);
      EXPECT_NEAR(likelihood.information(z), expected, 1e-6) << "z " << z;
    }
  }
  const PairLikelihood lapsing({PreferenceModel::kBradleyTerry, 0.0, 0.1});
  EXPECT_NEAR(lapsing.probability(50.0), 0.9, 1e-12);
  EXPECT_LT(lapsing.information(3.0), PairLikelihood().information(3.0));
}

TEST(PosteriorTest, OneMoreJudgementOfAPairMakesItSurerAndNoOtherLessSure) {
  auto task = random_task(10, 6, 15, 3);
  const std::vector<FeaturePair> pairs = {{0, 1}, {2, 3}, {4, 5}};
  const at::Tensor head = at::ones({6}, at::kDouble) * 0.2;
  const auto before = Posterior(head, at::eye(6, at::kDouble)).beliefs(task.features, pairs);
  auto posterior = Posterior(head, at::eye(6, at::kDouble));
  posterior.add(feature_difference(task.features, pairs[0]), before[0].information);
  const auto after = posterior.beliefs(task.features, pairs);
  EXPECT_NEAR(after[0].variance,
              before[0].variance / (1 + before[0].information * before[0].variance), 1e-12);
  for (size_t p = 1; p < pairs.size(); ++p) EXPECT_LE(after[p].variance, before[p].variance);
}

TEST(PosteriorTest, WhatCannotBeUsedIsNamed) {
  const auto task = random_task(6, 3, 4, 4);
  const at::Tensor mean = at::zeros({3}, at::kDouble), eye = at::eye(3, at::kDouble);
  EXPECT_THROW(Posterior(mean, -eye), data::InputError);
  EXPECT_THROW(Posterior(mean, at::eye(4, at::kDouble)), data::InputError);
  EXPECT_THROW(Posterior(mean.to(at::kFloat), eye), data::InputError);
  const Posterior posterior(mean, eye);
  EXPECT_THROW(posterior.beliefs(task.features, {{0, 6}}), data::InputError);
  EXPECT_THROW(posterior.beliefs(task.features, {{-1, 0}}), data::InputError);
  const at::Tensor broken = task.features.clone();
  broken[2][1] = NAN;
  EXPECT_THROW(posterior.beliefs(broken, {{0, 1}}), data::InputError);
}

}  // namespace
}  // namespace hone::reward
