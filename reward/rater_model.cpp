#include "reward/rater_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <unordered_map>
#include <utility>

#include "data/error.h"
#include "kernels/math/logistic.h"

namespace hone::reward {
namespace {

using data::InputError;
using kernels::math::logistic;

constexpr int64_t kCoinTypes = 64;                     // q = 1/128, 3/128, ...
constexpr int64_t kFollowTypes = 24, kSideTypes = 15;  // of (g, b)
// Beta(8, 2): people mostly answer what they are asked. Worth this many raters.
constexpr double kBaseFollows = 8.0, kBaseFails = 2.0, kBaseSide = 2.0, kBaseRaters = 2.0;
// Factors of a product between two logarithms: none is below 1 / 128 / 30.
constexpr int64_t kBlock = 64;
// An answer worth less as evidence moves its rater's posterior so little that taking it out of it
// would change nothing.
constexpr float kLeastOwn = 0.25f;
constexpr double kTail = 0.025;  // outside a 95 % interval, each side

/// Middles of `count` equal parts of [0, 1].
double middle(int64_t cell, int64_t count) {
  return (static_cast<double>(cell) + 0.5) / static_cast<double>(count);
}

double beta_shape(double x, double a, double b) {
  return std::pow(x, a - 1.0) * std::pow(1.0 - x, b - 1.0);
}

void normalize(std::vector<double>& values) {
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  for (double& value : values) value /= sum;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

/// The point below which `share` of the weights of values lies, each spread evenly over `width`
/// around its value. `order` sorts values.
double quantile(const std::vector<double>& values, const std::vector<double>& weights,
                const std::vector<size_t>& order, double share, double width) {
  double below = 0.0;
  for (const size_t at : order) {
    if (below + weights[at] >= share) {
      const double part = weights[at] > 0.0 ? (share - below) / weights[at] : 0.5;
      return values[at] + (part - 0.5) * width;
    }
    below += weights[at];
  }
  return values[order.back()] + 0.5 * width;
}

std::vector<size_t> sorted_order(const std::vector<double>& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return values[a] < values[b]; });
  return order;
}

/// The outcomes that an answer is made of, the one for the first text and the one for the second,
/// with their shares; a tie has half of each.
struct Halves {
  std::array<double, 2> share;
  std::array<size_t, 2> place;  // 0: the chosen text stood later, 1: not known, 2: earlier
};
Halves halves(float target, int8_t first_shown) {
  return {{target, 1.0 - target},
          {static_cast<size_t>(1 + first_shown), static_cast<size_t>(1 - first_shown)}};
}

}  // namespace

RaterModel::Types RaterModel::one_coin_types() {
  Types types;
  for (int64_t k = 0; k < kCoinTypes; ++k) {
    const double q = middle(k, kCoinTypes);
    types.follow.push_back(q);
    types.slope.push_back(2.0 * q - 1.0);
    for (auto& constant : types.constant) constant.push_back(1.0 - q);
    types.side.push_back(0.0);
    types.base.push_back(beta_shape(q, kBaseFollows, kBaseFails));
  }
  normalize(types.base);
  return types;
}

RaterModel::Types RaterModel::side_types() {
  Types types;
  for (int64_t k = 0; k < kFollowTypes; ++k) {
    for (int64_t s = 0; s < kSideTypes; ++s) {
      const double g = middle(k, kFollowTypes), b = middle(s, kSideTypes);
      types.follow.push_back(g);
      types.slope.push_back(g);
      types.constant[0].push_back((1.0 - g) * (1.0 - b));
      types.constant[1].push_back((1.0 - g) * 0.5);
      types.constant[2].push_back((1.0 - g) * b);
      types.side.push_back((1.0 - g) * (2.0 * b - 1.0));
      types.base.push_back(beta_shape(g, kBaseFollows, kBaseFails) *
                           beta_shape(b, kBaseSide, kBaseSide));
    }
  }
  normalize(types.base);
  return types;
}

RaterModel::RaterModel(RaterKind kind, std::vector<RaterAnswer> answers,
                       const std::vector<PreferenceData::Known>& known, int64_t items)
    : kind_(kind),
      types_(kind == RaterKind::kOneCoin ? one_coin_types() : side_types()),
      answers_(std::move(answers)),
      known_(known) {
  const auto raters = static_cast<int64_t>(known.size());
  begin_.assign(known.size() + 1, 0);
  std::vector<std::pair<int64_t, int32_t>> touching;  // item, rater
  int32_t last = 0;
  for (const auto& answer : answers_) {
    if (answer.rater < last || answer.rater >= raters) {
      throw InputError("rater model", "answers", "rising raters below " + std::to_string(raters),
                       std::to_string(answer.rater) + " after " + std::to_string(last));
    }
    for (const int64_t item : {answer.first, answer.second}) {
      if (item < 0 || item >= items) {
        throw InputError("rater model", "answers", "items below " + std::to_string(items),
                         std::to_string(item));
      }
      touching.emplace_back(item, answer.rater);
    }
    last = answer.rater;
    ++begin_[static_cast<size_t>(answer.rater) + 1];
  }
  std::partial_sum(begin_.begin(), begin_.end(), begin_.begin());
  std::sort(touching.begin(), touching.end());
  touching.erase(std::unique(touching.begin(), touching.end()), touching.end());
  item_begin_.assign(static_cast<size_t>(items) + 1, 0);
  for (const auto& [item, rater] : touching) {
    ++item_begin_[static_cast<size_t>(item) + 1];
    item_raters_.push_back(rater);
  }
  std::partial_sum(item_begin_.begin(), item_begin_.end(), item_begin_.begin());
  likelihood_.resize(known.size() * types_.base.size());
  log_scale_.resize(known.size());
  used_.resize(known.size());
  restore(
      {std::vector<double>(static_cast<size_t>(items), std::numeric_limits<double>::quiet_NaN()),
       types_.base});
}

void RaterModel::restore(State state) {
  if (state.population.size() != types_.base.size() ||
      state.scores.size() + 1 != item_begin_.size()) {
    throw InputError(
        "rater model", "state",
        std::to_string(item_begin_.size() - 1) + " scores and " +
            std::to_string(types_.base.size()) + " types",
        std::to_string(state.scores.size()) + " and " + std::to_string(state.population.size()));
  }
  state_ = std::move(state);
  for (int64_t rater = 0; rater < raters(); ++rater) refresh(rater);
}

double RaterModel::difference(const RaterAnswer& answer) const {
  return state_.scores[static_cast<size_t>(answer.first)] -
         state_.scores[static_cast<size_t>(answer.second)];
}

void RaterModel::refresh(int64_t rater) {
  const auto r = static_cast<size_t>(rater);
  const size_t types = types_.base.size();
  std::vector<double> logs(types, 0.0), product(types, 1.0);
  // A known answer is right with probability q, or of a side's type g + (1 - g) / 2.
  for (size_t t = 0; t < types; ++t) {
    const double right = types_.constant[1][t] + types_.slope[t];
    logs[t] = static_cast<double>(known_[r].right) * std::log(right) +
              static_cast<double>(known_[r].wrong) * std::log1p(-right);
  }
  int64_t factors = 0;
  float evidence = 1.0f;
  const auto close = [&] {
    for (size_t t = 0; t < types && factors > 0; ++t) {
      logs[t] += static_cast<double>(evidence) * std::log(product[t]);
      product[t] = 1.0;
    }
    factors = 0;
  };
  used_[r] = 0;
  for (int64_t a = begin_[r]; a < begin_[r + 1]; ++a) {
    const auto& answer = answers_[static_cast<size_t>(a)];
    const double d = difference(answer);
    if (std::isnan(d)) continue;
    ++used_[r];
    if (answer.evidence != evidence || factors >= kBlock) close();
    evidence = answer.evidence;
    ++factors;
    const auto [share, place] = halves(answer.target, answer.first_shown);
    const std::array<double, 2> chosen = {logistic(d), logistic(-d)};
    if (share[0] == 0.0 || share[1] == 0.0) {
      const size_t y = share[0] == 0.0;
      const double* constant = types_.constant[place[y]].data();
      for (size_t t = 0; t < types; ++t) product[t] *= constant[t] + types_.slope[t] * chosen[y];
      continue;
    }
    const double* first = types_.constant[place[0]].data();
    const double* second = types_.constant[place[1]].data();
    for (size_t t = 0; t < types; ++t) {
      product[t] *= std::sqrt((first[t] + types_.slope[t] * chosen[0]) *
                              (second[t] + types_.slope[t] * chosen[1]));
    }
  }
  close();
  log_scale_[r] = *std::max_element(logs.begin(), logs.end());
  double* likelihood = likelihood_.data() + r * types;
  for (size_t t = 0; t < types; ++t) likelihood[t] = std::exp(logs[t] - log_scale_[r]);
}

std::vector<double> RaterModel::posterior(int64_t rater) const {
  std::vector<double> weights = state_.population;
  if (rater < 0) return weights;
  const size_t types = weights.size();
  const double* likelihood = likelihood_.data() + static_cast<size_t>(rater) * types;
  for (size_t t = 0; t < types; ++t) weights[t] *= likelihood[t];
  normalize(weights);
  return weights;
}

RaterModel::Expected RaterModel::expect(const PairBatch& batch,
                                        const std::vector<double>& scores) const {
  const size_t types = types_.base.size();
  Expected out{.pairs = batch.pairs, .loss = 0.0};
  std::vector<int64_t> count(batch.pairs.size(), 0);
  for (const auto& answer : batch.answers) ++count[static_cast<size_t>(answer.pair)];
  std::vector<std::array<double, 2>> toward(batch.pairs.size(), {0.0, 0.0});
  std::unordered_map<int32_t, std::vector<double>> posteriors;
  const bool coin = kind_ == RaterKind::kOneCoin;
  for (const auto& answer : batch.answers) {
    const auto& pair = batch.pairs[static_cast<size_t>(answer.pair)];
    const auto first = static_cast<size_t>(pair.first), second = static_cast<size_t>(pair.second);
    const double d = scores[first] - scores[second];
    const double before = state_.scores[static_cast<size_t>(batch.items[first])] -
                          state_.scores[static_cast<size_t>(batch.items[second])];
    auto& weights = posteriors[answer.rater];
    if (weights.empty()) weights = posterior(answer.rater);
    const bool own = answer.rater >= 0 && answer.evidence >= kLeastOwn && !std::isnan(before);
    const auto [share, place] = halves(answer.target, answer.first_shown);
    const std::array<double, 2> now = {logistic(d), logistic(-d)};
    const std::array<double, 2> then = {logistic(before), logistic(-before)};
    // With m = what the rater's other answers say of a type and L = P(answer | type):
    double others = 0.0, predicted = 0.0, total = 0.0;  // sums of m, m L, m L^evidence
    std::array<double, 2> follows = {0.0, 0.0};         // of m L^evidence P(followed | answer)
    for (size_t t = 0; t < types; ++t) {
      double p = 1.0, old = 1.0;
      std::array<double, 2> outcome = {1.0, 1.0};
      for (size_t y = 0; y < 2; ++y) {
        if (share[y] == 0.0) continue;
        const double constant = types_.constant[place[y]][t], slope = types_.slope[t];
        outcome[y] = constant + slope * now[y];
        p *= outcome[y];
        old *= constant + slope * then[y];
      }
      if (share[0] == share[1]) p = std::sqrt(p), old = std::sqrt(old);
      double m = weights[t], all = m;
      if (own && answer.evidence == 1.0f) {
        m /= old;
        all = m * p;
      } else if (own) {
        m /= std::pow(old, static_cast<double>(answer.evidence));
        all = m * std::pow(p, static_cast<double>(answer.evidence));
      } else if (answer.rater < 0 || std::isnan(before)) {
        all = m * p;
      }
      others += m;
      predicted += m * p;
      total += all;
      for (size_t y = 0; y < 2; ++y) {
        if (share[y] != 0.0) follows[y] += all * types_.follow[t] * now[y] / outcome[y];
      }
    }
    const auto at = static_cast<size_t>(answer.pair);
    out.loss -= static_cast<double>(pair.weight) / static_cast<double>(count[at]) *
                std::log(predicted / others);
    for (size_t y = 0; y < 2; ++y) {
      const double followed = follows[y] / total;
      toward[at][y] += share[y] * followed;
      // A coin that does not follow says the opposite; a side that does not follow says nothing.
      if (coin) toward[at][1 - y] += share[y] * (1.0 - followed);
    }
  }
  for (size_t p = 0; p < batch.pairs.size(); ++p) {
    auto& pair = out.pairs[p];
    if (count[p] == 0) {
      const double d =
          scores[static_cast<size_t>(pair.first)] - scores[static_cast<size_t>(pair.second)];
      const double target = pair.target;
      if (target > 0.0) out.loss -= pair.weight * target * std::log(logistic(d));
      if (target < 1.0) out.loss -= pair.weight * (1.0 - target) * std::log(logistic(-d));
      continue;
    }
    const double sum = toward[p][0] + toward[p][1];
    pair.weight = static_cast<float>(pair.weight * sum / static_cast<double>(count[p]));
    pair.target = sum > 0.0 ? static_cast<float>(toward[p][0] / sum) : 0.5f;
  }
  return out;
}

void RaterModel::observe(const std::vector<int64_t>& items, const std::vector<double>& scores) {
  std::vector<int32_t> touched;
  for (size_t k = 0; k < items.size(); ++k) {
    const auto item = static_cast<size_t>(items[k]);
    state_.scores[item] = scores[k];
    touched.insert(touched.end(), item_raters_.begin() + item_begin_[item],
                   item_raters_.begin() + item_begin_[item + 1]);
  }
  std::sort(touched.begin(), touched.end());
  touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
  for (const int32_t rater : touched) refresh(rater);

  std::vector<double> population(types_.base.size());
  double seen = kBaseRaters;
  for (size_t t = 0; t < population.size(); ++t) population[t] = kBaseRaters * types_.base[t];
  for (int64_t rater = 0; rater < raters(); ++rater) {
    const auto r = static_cast<size_t>(rater);
    if (used_[r] + known_[r].right + known_[r].wrong == 0) continue;
    const auto weights = posterior(rater);
    for (size_t t = 0; t < population.size(); ++t) population[t] += weights[t];
    seen += 1.0;
  }
  for (double& share : population) share /= seen;
  state_.population = std::move(population);
}

double RaterModel::average() const { return dot(state_.population, types_.follow); }

double RaterModel::log_likelihood() const {
  const size_t types = types_.base.size();
  double sum = 0.0;
  for (size_t r = 0; r < known_.size(); ++r) {
    double part = 0.0;
    for (size_t t = 0; t < types; ++t) part += state_.population[t] * likelihood_[r * types + t];
    sum += log_scale_[r] + std::log(part);
  }
  return sum;
}

RaterModel::Reliability RaterModel::reliability(int64_t rater) const {
  const auto r = static_cast<size_t>(rater);
  const auto weights = posterior(rater);
  Reliability out;
  const auto by_follow = sorted_order(types_.follow);
  out.mean = dot(weights, types_.follow);
  if (kind_ == RaterKind::kOneCoin) {
    const double width = 1.0 / kCoinTypes;
    out.low = quantile(types_.follow, weights, by_follow, kTail, width);
    out.high = quantile(types_.follow, weights, by_follow, 1.0 - kTail, width);
  } else {
    // Types of the same g are neighbours: the cell of g is gone through once in all.
    std::vector<double> cells(kFollowTypes), values(kFollowTypes);
    for (int64_t k = 0; k < kFollowTypes; ++k) {
      values[static_cast<size_t>(k)] = middle(k, kFollowTypes);
      for (int64_t s = 0; s < kSideTypes; ++s) {
        cells[static_cast<size_t>(k)] += weights[static_cast<size_t>(k * kSideTypes + s)];
      }
    }
    const auto order = sorted_order(values);
    out.low = quantile(values, cells, order, kTail, 1.0 / kFollowTypes);
    out.high = quantile(values, cells, order, 1.0 - kTail, 1.0 / kFollowTypes);
    const auto by_side = sorted_order(types_.side);
    out.side = dot(weights, types_.side);
    out.side_low = quantile(types_.side, weights, by_side, kTail, 0.0);
    out.side_high = quantile(types_.side, weights, by_side, 1.0 - kTail, 0.0);
  }
  out.answers = used_[r];
  out.evidence = static_cast<double>(known_[r].right + known_[r].wrong);
  for (int64_t a = begin_[r]; a < begin_[r + 1]; ++a) {
    const auto& answer = answers_[static_cast<size_t>(a)];
    if (!std::isnan(difference(answer))) out.evidence += static_cast<double>(answer.evidence);
  }
  return out;
}

}  // namespace hone::reward
