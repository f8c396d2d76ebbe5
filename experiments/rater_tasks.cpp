#include "experiments/rater_tasks.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "kernels/math/logistic.h"

namespace hone::experiments {
namespace {

using kernels::math::logistic;
using reward::PairBatch;
using reward::RaterAnswer;
using reward::RaterKind;
using reward::RaterModel;

constexpr int64_t kDimensions = 40, kTestPairs = 4000;
constexpr double kGoldScale = 3.0;  // of a score, in logits: clean labels give .961 (E9)
constexpr double kItemScale = 1.5;  // good raters alone give a rank correlation of .956 (T2)
constexpr int kEmSteps = 60, kNewtonSteps = 20;

/// Uniform in (0, 1) and normal, the same with every standard library.
class Draws {
 public:
  explicit Draws(uint64_t seed) : engine_(seed) {}
  double uniform() { return (static_cast<double>(engine_() >> 11) + 0.5) * 0x1.0p-53; }
  double normal() {
    return std::sqrt(-2.0 * std::log(uniform())) * std::cos(2.0 * M_PI * uniform());
  }
  int64_t below(int64_t n) { return static_cast<int64_t>(uniform() * static_cast<double>(n)); }

 private:
  std::mt19937_64 engine_;
};

at::Tensor normals(Draws& draws, int64_t rows, int64_t columns) {
  const at::Tensor out = at::empty({rows, columns}, at::kDouble);
  double* values = out.data_ptr<double>();
  for (int64_t k = 0; k < out.numel(); ++k) values[k] = draws.normal();
  return out;
}

/// The answer of one rater about true difference d; `clean` is what a follower says.
float answer_of(const MadeRater& rater, bool first_better, int8_t first_shown, Draws& draws) {
  if (draws.uniform() < rater.side) {
    return (draws.uniform() < rater.earlier) == (first_shown > 0) ? 1.0f : 0.0f;
  }
  return (draws.uniform() < rater.follows) == first_better ? 1.0f : 0.0f;
}

void add_answer(RaterTask& task, int64_t first, int64_t second, int32_t rater, Draws& draws) {
  const double* truth = task.truth.const_data_ptr<double>();
  const bool first_better = draws.uniform() < logistic(truth[first] - truth[second]);
  const int8_t first_shown = draws.uniform() < 0.5 ? 1 : -1;
  const auto& person = task.raters[static_cast<size_t>(rater)];
  task.answers.push_back({.first = first,
                          .second = second,
                          .rater = rater,
                          .target = answer_of(person, first_better, first_shown, draws),
                          .first_shown = first_shown});
  task.clean.push_back(first_better ? 1.0f : 0.0f);
}

/// All answers as one batch over all items.
PairBatch whole_batch(const RaterTask& task, Weighting weighting, const std::vector<bool>& only) {
  PairBatch batch;
  batch.items.resize(static_cast<size_t>(task.truth.numel()));
  std::iota(batch.items.begin(), batch.items.end(), int64_t{0});
  for (size_t a = 0; a < task.answers.size(); ++a) {
    const auto& answer = task.answers[a];
    if (!only.empty() && !only[static_cast<size_t>(answer.rater)]) continue;
    const auto pair = static_cast<int32_t>(batch.pairs.size());
    batch.pairs.push_back({static_cast<int32_t>(answer.first), static_cast<int32_t>(answer.second),
                           weighting == Weighting::kClean ? task.clean[a] : answer.target, 1.0f});
    batch.answers.push_back(
        {pair, answer.rater, answer.target, answer.evidence, answer.first_shown});
  }
  return batch;
}

std::vector<double> to_vector(const at::Tensor& scores) {
  const double* values = scores.const_data_ptr<double>();
  return {values, values + scores.numel()};
}

/// Newton's method on sum_p weight_p * cross entropy of sigma(x_p . w) + ridge / 2 |w|^2.
class Logistic {
 public:
  Logistic(const at::Tensor& features, const PairBatch& batch, double ridge) : ridge_(ridge) {
    std::vector<int64_t> first, second;
    for (const auto& pair : batch.pairs) {
      first.push_back(pair.first);
      second.push_back(pair.second);
    }
    rows_ =
        features.index_select(0, at::tensor(first)) - features.index_select(0, at::tensor(second));
  }
  at::Tensor step(const at::Tensor& weights, const std::vector<reward::Pair>& pairs) const {
    std::vector<double> target, weight;
    for (const auto& pair : pairs) {
      target.push_back(pair.target);
      weight.push_back(pair.weight);
    }
    const at::Tensor w = at::tensor(weight, at::kDouble);
    const at::Tensor p = rows_.mv(weights).sigmoid();
    const at::Tensor gradient =
        rows_.t().mv(w * (p - at::tensor(target, at::kDouble))) + ridge_ * weights;
    const at::Tensor hessian = rows_.t().mm(rows_ * (w * p * (1.0 - p)).unsqueeze(1)) +
                               ridge_ * at::eye(weights.numel(), at::kDouble);
    return weights - at::linalg_solve(hessian, gradient);
  }

 private:
  at::Tensor rows_;
  double ridge_;
};

}  // namespace

RaterTask single_judgements(const std::vector<MadeRater>& raters, int64_t pairs, uint64_t seed) {
  Draws draws(seed);
  RaterTask task;
  task.raters = raters;
  task.known.resize(raters.size());
  const int64_t items = 2 * (pairs + kTestPairs);
  task.features = normals(draws, items, kDimensions);
  const at::Tensor direction =
      normals(draws, kDimensions, 1).squeeze(1) / std::sqrt(static_cast<double>(kDimensions));
  task.truth = kGoldScale * task.features.mv(direction);
  std::vector<int32_t> of_pair;
  for (int64_t p = 0; p < pairs; ++p) {
    of_pair.push_back(static_cast<int32_t>(draws.below(static_cast<int64_t>(raters.size()))));
  }
  std::sort(of_pair.begin(), of_pair.end());
  for (int64_t p = 0; p < pairs; ++p) {
    add_answer(task, 2 * p, 2 * p + 1, of_pair[static_cast<size_t>(p)], draws);
  }
  task.test = at::arange(2 * pairs, items, at::kLong).view({-1, 2});
  return task;
}

RaterTask repeated_items(const std::vector<MadeRater>& raters, int64_t items, int64_t comparisons,
                         double gold, uint64_t seed) {
  Draws draws(seed);
  RaterTask task;
  task.raters = raters;
  task.known.resize(raters.size());
  task.features = at::eye(items, at::kDouble);
  task.truth = kItemScale * normals(draws, items, 1).squeeze(1);
  const double* truth = task.truth.const_data_ptr<double>();
  const auto count = static_cast<int64_t>(raters.size());
  for (int64_t c = 0; c < comparisons; ++c) {
    const auto rater = static_cast<int32_t>(c * count / comparisons);
    const bool known = draws.uniform() < gold;
    int64_t first = 0, second = 0;
    // Questions with known answers are easy ones: at least two logits apart.
    while (first == second || (known && std::abs(truth[first] - truth[second]) < 2.0)) {
      first = draws.below(items);
      second = draws.below(items);
    }
    add_answer(task, first, second, rater, draws);
    if (!known) continue;
    auto& answer = task.answers.back();
    answer.evidence = 0.0f;
    auto& score = task.known[static_cast<size_t>(rater)];
    ++((answer.target == 1.0f) == (truth[first] > truth[second]) ? score.right : score.wrong);
  }
  return task;
}

LinearFit fit_scores(const RaterTask& task, Weighting weighting, double ridge,
                     const std::vector<bool>& only) {
  const auto batch = whole_batch(task, weighting, only);
  const Logistic logistic(task.features, batch, ridge);
  at::Tensor weights = at::zeros({task.features.size(1)}, at::kDouble);
  LinearFit fit;
  if (weighting == Weighting::kEqual || weighting == Weighting::kClean) {
    for (int k = 0; k < kNewtonSteps; ++k) weights = logistic.step(weights, batch.pairs);
    fit.scores = task.features.mv(weights);
    return fit;
  }
  RaterModel model(weighting == Weighting::kSide ? RaterKind::kSide : RaterKind::kOneCoin,
                   task.answers, task.known, task.truth.numel());
  for (int k = 0; k < kEmSteps; ++k) {
    const auto scores = to_vector(task.features.mv(weights));
    const auto expected = model.expect(batch, scores);
    model.observe(batch.items, scores);
    weights = logistic.step(weights, expected.pairs);
  }
  fit.scores = task.features.mv(weights);
  for (int64_t r = 0; r < model.raters(); ++r) {
    fit.reliability.push_back(model.reliability(r).mean);
  }
  return fit;
}

double gradient_error(RaterKind kind, uint64_t seed) {
  Draws draws(seed);
  constexpr int64_t kItems = 8, kAnswers = 60, kRaters = 4;
  std::vector<RaterAnswer> answers;
  std::vector<reward::PreferenceData::Known> known(kRaters);
  known[1] = {.right = 3, .wrong = 1};
  PairBatch batch;
  for (int64_t a = 0; a < kAnswers; ++a) {
    const int64_t first = draws.below(kItems),
                  second = (first + 1 + draws.below(kItems - 1)) % kItems;
    answers.push_back({.first = first,
                       .second = second,
                       .rater = static_cast<int32_t>(a * kRaters / kAnswers),
                       .target = 0.5f * static_cast<float>(draws.below(3)),
                       .first_shown = static_cast<int8_t>(draws.below(3) - 1)});
    const auto& answer = answers.back();
    batch.pairs.push_back(
        {static_cast<int32_t>(first), static_cast<int32_t>(second), answer.target, 1.0f});
    batch.answers.push_back({static_cast<int32_t>(a), answer.rater, answer.target, answer.evidence,
                             answer.first_shown});
  }
  std::vector<double> scores;
  for (int64_t i = 0; i < kItems; ++i) {
    batch.items.push_back(i);
    scores.push_back(draws.normal());
  }
  RaterModel model(kind, answers, known, kItems);
  for (int k = 0; k < 3; ++k) model.observe(batch.items, scores);
  const auto population = model.state().population;
  const auto expected = model.expect(batch, scores);
  std::vector<double> slope(kItems, 0.0);  // of minus the log likelihood
  for (const auto& pair : expected.pairs) {
    const auto first = static_cast<size_t>(pair.first), second = static_cast<size_t>(pair.second);
    const double by_difference =
        pair.weight * (logistic(scores[first] - scores[second]) - pair.target);
    slope[first] += by_difference;
    slope[second] -= by_difference;
  }
  constexpr double kStep = 1e-4;
  double error = 0.0, largest = 0.0;
  for (size_t i = 0; i < scores.size(); ++i) {
    auto moved = scores;
    double change = 0.0;
    // Fourth order: (-f(2h) + 8 f(h) - 8 f(-h) + f(-2h)) / 12 h.
    for (const auto& [at, factor] : {std::pair{2.0, -1.0}, {1.0, 8.0}, {-1.0, -8.0}, {-2.0, 1.0}}) {
      moved[i] = scores[i] + at * kStep;
      model.restore({moved, population});
      change += factor * model.log_likelihood();
    }
    error = std::max(error, std::abs(slope[i] + change / (12.0 * kStep)));
    largest = std::max(largest, std::abs(slope[i]));
  }
  return error / largest;
}

}  // namespace hone::experiments
