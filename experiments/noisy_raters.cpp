#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "experiments/experiment.h"
#include "experiments/rater_tasks.h"

namespace hone::experiments {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t kJudgements = 1500;
constexpr double kRidge = 1.0, kItemRidge = 0.25;

double accuracy(const at::Tensor& scores, const RaterTask& task) {
  const at::Tensor said = scores.index_select(0, task.test.select(1, 0)) -
                          scores.index_select(0, task.test.select(1, 1));
  const at::Tensor true_difference = task.truth.index_select(0, task.test.select(1, 0)) -
                                     task.truth.index_select(0, task.test.select(1, 1));
  return (said.sign() == true_difference.sign()).to(at::kDouble).mean().item<double>();
}

double correlation(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a - a.mean(), y = b - b.mean();
  return (x.dot(y) / (x.norm() * y.norm())).item<double>();
}

at::Tensor ranks(const at::Tensor& values) { return values.argsort().argsort().to(at::kDouble); }

double spearman(const at::Tensor& scores, const RaterTask& task) {
  return correlation(ranks(scores), ranks(task.truth));
}

/// Probability that a bad rater is believed less than a good one.
double bad_rater_auc(const std::vector<double>& reliability, const std::vector<bool>& good) {
  double won = 0.0, pairs = 0.0;
  for (size_t b = 0; b < good.size(); ++b) {
    for (size_t g = 0; g < good.size() && !good[b]; ++g) {
      if (!good[g]) continue;
      won += reliability[b] < reliability[g] ? 1.0 : reliability[b] == reliability[g] ? 0.5 : 0.0;
      pairs += 1.0;
    }
  }
  return pairs > 0.0 ? won / pairs : kNone;
}

/// Means over seeds of what `one` returns.
std::vector<double> over_seeds(int64_t seeds, uint64_t first,
                               const std::function<std::vector<double>(uint64_t)>& one) {
  std::vector<double> sum;
  for (int64_t s = 0; s < seeds; ++s) {
    const auto figures = one(first * 1000003 + static_cast<uint64_t>(s));
    sum.resize(figures.size(), 0.0);
    for (size_t k = 0; k < figures.size(); ++k) sum[k] += figures[k] / static_cast<double>(seeds);
  }
  return sum;
}

std::vector<MadeRater> people(std::initializer_list<std::pair<int, double>> groups) {
  std::vector<MadeRater> raters;
  for (const auto& [count, follows] : groups) {
    for (int k = 0; k < count; ++k) raters.push_back({.follows = follows});
  }
  return raters;
}

/// One row of E9: accuracy of a linear reward model on pairs never judged.
ExperimentRow judged_once(const char* name, const std::vector<MadeRater>& raters,
                          int64_t judgements, int64_t seeds, uint64_t seed) {
  std::vector<double> follows;
  for (const auto& rater : raters) follows.push_back(rater.follows);
  const bool differ = *std::min_element(follows.begin(), follows.end()) !=
                      *std::max_element(follows.begin(), follows.end());
  auto figures = over_seeds(seeds, seed, [&](uint64_t s) {
    const auto task = single_judgements(raters, judgements, s);
    const auto learned = fit_scores(task, Weighting::kOneCoin, kRidge);
    return std::vector<double>{accuracy(fit_scores(task, Weighting::kEqual, kRidge).scores, task),
                               accuracy(learned.scores, task),
                               accuracy(fit_scores(task, Weighting::kClean, kRidge).scores, task),
                               differ ? correlation(at::tensor(learned.reliability, at::kDouble),
                                                    at::tensor(follows, at::kDouble))
                                      : kNone};
  });
  const double gap = differ ? 100.0 * (figures[1] - figures[0]) / (figures[2] - figures[0]) : kNone;
  return {name, {figures[0], figures[1], figures[2], gap, figures[3], kNone}, "", true};
}

/// One row of T2: rank correlation of item scores with the truth; the oracle knows who is good.
ExperimentRow ranked(const char* name, const MadeRater& bad, Weighting weighting, double gold,
                     int64_t seeds, uint64_t seed) {
  std::vector<MadeRater> raters(15);
  raters.insert(raters.end(), 10, bad);
  std::vector<bool> good(25, false);
  std::fill_n(good.begin(), 15, true);
  auto figures = over_seeds(seeds, seed, [&](uint64_t s) {
    const auto task = repeated_items(raters, 40, kJudgements, gold, s);
    const auto learned = fit_scores(task, weighting, kItemRidge);
    return std::vector<double>{
        spearman(fit_scores(task, Weighting::kEqual, kItemRidge).scores, task),
        spearman(learned.scores, task),
        spearman(fit_scores(task, Weighting::kEqual, kItemRidge, good).scores, task),
        bad_rater_auc(learned.reliability, good)};
  });
  return {name, {figures[0], figures[1], figures[2], kNone, kNone, figures[3]}, "", true};
}

}  // namespace

ExperimentResult noisy_raters(const ExperimentOptions& options) {
  const auto seeds = std::max<int64_t>(2, std::llround(10.0 * options.scale));
  const uint64_t seed = options.seed;
  ExperimentResult result;
  result.name = "noisy-raters";
  result.columns = {"unweighted", "learned", "best", "gap %", "corr", "AUC"};
  const auto add = [&](ExperimentRow row, const std::string& expected, bool passed) {
    row.expected = expected;
    row.passed = passed;
    result.rows.push_back(std::move(row));
  };
  struct Judged {
    const char* name;
    std::vector<MadeRater> raters;
    int64_t judgements;
    bool check_gap;
  };
  const std::vector<Judged> different = {
      {"5 at .9, 3 at .6, 2 at .5", people({{5, 0.9}, {3, 0.6}, {2, 0.5}}), kJudgements, true},
      {"5 at .9, 2 at .6, 3 at .25", people({{5, 0.9}, {2, 0.6}, {3, 0.25}}), kJudgements, true},
      {"300 raters of 10 answers, 90 at .1", people({{210, 0.95}, {90, 0.1}}), 3000, false}};
  for (const auto& task : different) {
    auto row = judged_once(task.name, task.raters, task.judgements, seeds, seed);
    const double gap = row.figures[3], corr = row.figures[4];
    const bool passed = gap >= 45.0 && (!task.check_gap || corr > 0.9);
    add(std::move(row), task.check_gap ? "gap >= 45 %, corr > .9" : "gap >= 45 %", passed);
  }
  const std::vector<Judged> alike = {{"10 alike at 1", people({{10, 1.0}}), kJudgements, false},
                                     {"10 alike at .9", people({{10, 0.9}}), kJudgements, false},
                                     {"10 alike at .75", people({{10, 0.75}}), kJudgements, false},
                                     {"300 alike at .9", people({{300, 0.9}}), kJudgements, false}};
  for (const auto& task : alike) {
    auto row = judged_once(task.name, task.raters, task.judgements, seeds, seed);
    const bool passed = row.figures[1] > row.figures[0] - 0.002;
    add(std::move(row), "not below unweighted (.002)", passed);
  }
  struct Ranked {
    const char* name;
    MadeRater bad;
    Weighting weighting;
    double gold, auc;
  };
  const MadeRater side{.side = 1.0, .earlier = 0.9}, coin{.follows = 0.5}, invert{.follows = 0.0};
  for (const auto& task :
       {Ranked{"40 % choose a side, side model", side, Weighting::kSide, 0.0, 0.99},
        Ranked{"40 % choose a side, one coin", side, Weighting::kOneCoin, 0.0, 0.99},
        Ranked{"40 % flip a coin, one coin", coin, Weighting::kOneCoin, 0.0, 0.99},
        Ranked{"40 % flip a coin, side model", coin, Weighting::kSide, 0.0, 0.99},
        Ranked{"40 % invert, 5 % known", invert, Weighting::kOneCoin, 0.05, 0.98}}) {
    auto row = ranked(task.name, task.bad, task.weighting, task.gold, seeds, seed);
    const bool passed = row.figures[5] >= task.auc && row.figures[1] >= row.figures[2] - 0.01;
    add(std::move(row),
        std::string("AUC >= ") + (task.auc == 0.99 ? ".99" : ".98") + ", learned >= best - .01",
        passed);
  }
  result.rows.push_back(
      ranked("40 % invert, nothing known", invert, Weighting::kOneCoin, 0.0, seeds, seed));
  for (const auto& [name, kind] : {std::pair{"gradient, one coin", reward::RaterKind::kOneCoin},
                                   {"gradient, side", reward::RaterKind::kSide}}) {
    const double error = gradient_error(kind, seed);
    add({name, {kNone, error, kNone, kNone, kNone, kNone}, "", true}, "within 1e-6 of differences",
        error <= 1e-6);
  }
  result.reading =
      "Who is reliable can be learned from the same answers as the scores, and costs nothing where "
      "all are alike, or are 300 with ten answers each; 40 % who invert become as useful as "
      "others.";
  return result;
}

}  // namespace hone::experiments
