#include "reward/rater_model.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "data/error.h"

namespace hone::reward {
namespace {

using Known = PreferenceData::Known;

struct Judged {
  std::vector<RaterAnswer> answers;
  std::vector<Known> known;
  std::vector<double> scores;
  PairBatch batch;  // all answers, each a pair of its own
};

double sigma(double x) { return 1.0 / (1.0 + std::exp(-x)); }

/// `each` answers of every rater about items with normal scores; says(rater, d, first_shown) is the
/// probability of choosing the first.
template <class F>
Judged judged(int raters, int each, int items, unsigned seed, const F& says) {
  std::mt19937_64 engine(seed);
  std::uniform_real_distribution<double> uniform;
  std::normal_distribution<double> normal(0.0, 2.0);
  Judged out;
  for (int i = 0; i < items; ++i) {
    out.scores.push_back(normal(engine));
    out.batch.items.push_back(i);
  }
  out.known.resize(static_cast<size_t>(raters));
  for (int32_t r = 0; r < raters; ++r) {
    for (int a = 0; a < each; ++a) {
      const auto first = static_cast<int64_t>(engine() % static_cast<uint64_t>(items));
      const auto second =
          (first + 1 + static_cast<int64_t>(engine() % static_cast<uint64_t>(items - 1))) % items;
      const int8_t shown = engine() % 2 ? 1 : -1;
      const double d =
          out.scores[static_cast<size_t>(first)] - out.scores[static_cast<size_t>(second)];
      const float target = uniform(engine) < says(r, d, shown) ? 1.0f : 0.0f;
      out.answers.push_back(
          {.first = first, .second = second, .rater = r, .target = target, .first_shown = shown});
    }
  }
  return out;
}

void fill_batch(Judged& data) {
  for (const auto& answer : data.answers) {
    const auto pair = static_cast<int32_t>(data.batch.pairs.size());
    data.batch.pairs.push_back({static_cast<int32_t>(answer.first),
                                static_cast<int32_t>(answer.second), answer.target, 1.0f});
    data.batch.answers.push_back(
        {pair, answer.rater, answer.target, answer.evidence, answer.first_shown});
  }
}

/// The formulas of the header by plain loops; the grid is the middles of 64, or of 24 x 15 cells.
double naive_log_likelihood(RaterKind kind, const Judged& data, const std::vector<double>& scores,
                            const std::vector<double>& population) {
  double sum = 0.0;
  for (size_t r = 0; r < data.known.size(); ++r) {
    double of_rater = 0.0;
    for (size_t t = 0; t < population.size(); ++t) {
      const double q = kind == RaterKind::kOneCoin ? (static_cast<double>(t) + 0.5) / 64
                                                   : (static_cast<double>(t / 15) + 0.5) / 24;
      const double b = (static_cast<double>(t % 15) + 0.5) / 15;
      const double right = kind == RaterKind::kOneCoin ? q : q + (1 - q) / 2;
      double p = std::pow(right, static_cast<double>(data.known[r].right)) *
                 std::pow(1 - right, static_cast<double>(data.known[r].wrong));
      for (const auto& answer : data.answers) {
        if (answer.rater != static_cast<int32_t>(r)) continue;
        const double d =
            scores[static_cast<size_t>(answer.first)] - scores[static_cast<size_t>(answer.second)];
        const auto chosen = [&](double y) {
          const double place = y * answer.first_shown;
          const double other = kind == RaterKind::kOneCoin ? sigma(-y * d)
                               : place > 0                 ? b
                               : place < 0                 ? 1 - b
                                                           : 0.5;
          return q * sigma(y * d) + (1 - q) * other;
        };
        const double one = answer.target == 1.0f   ? chosen(1)
                           : answer.target == 0.0f ? chosen(-1)
                                                   : std::sqrt(chosen(1) * chosen(-1));
        p *= std::pow(one, static_cast<double>(answer.evidence));
      }
      of_rater += population[t] * p;
    }
    sum += std::log(of_rater);
  }
  return sum;
}

class BothKinds : public testing::TestWithParam<RaterKind> {};

TEST_P(BothKinds, LikelihoodAndItsSlopesAreThoseOfTheFormula) {
  auto data = judged(4, 15, 8, 1, [](int32_t, double d, int8_t) { return sigma(d); });
  for (size_t a = 0; a < data.answers.size(); ++a) {  // ties, and orders that are not known
    if (a % 4 == 0) data.answers[a].target = 0.5f;
    if (a % 5 == 0) data.answers[a].first_shown = 0;
  }
  data.known[2] = {.right = 2, .wrong = 1};
  fill_batch(data);
  RaterModel model(GetParam(), data.answers, data.known, 8);
  for (int k = 0; k < 3; ++k) model.observe(data.batch.items, data.scores);
  const auto population = model.state().population;
  const auto naive = [&](const std::vector<double>& scores) {
    return naive_log_likelihood(GetParam(), data, scores, population);
  };
  EXPECT_NEAR(model.log_likelihood(), naive(data.scores), 1e-9);

  const auto expected = model.expect(data.batch, data.scores);
  std::vector<double> slope(8, 0.0);
  for (const auto& pair : expected.pairs) {
    const auto first = static_cast<size_t>(pair.first), second = static_cast<size_t>(pair.second);
    const double by_difference =
        pair.weight * (sigma(data.scores[first] - data.scores[second]) - pair.target);
    slope[first] += by_difference;
    slope[second] -= by_difference;
  }
  for (size_t i = 0; i < 8; ++i) {
    auto up = data.scores, down = data.scores;
    up[i] += 1e-5;
    down[i] -= 1e-5;
    EXPECT_NEAR(slope[i], -(naive(up) - naive(down)) / 2e-5, 2e-6) << i;
  }
}

TEST_P(BothKinds, EvidenceIsTheExponentOfAnAnswer) {
  auto data = judged(2, 20, 8, 2, [](int32_t, double d, int8_t) { return sigma(d); });
  for (size_t a = 0; a < data.answers.size(); ++a)
    data.answers[a].evidence = a % 3 == 0 ? 0.5f : a % 3 == 1 ? 1.0f : 0.1f;
  RaterModel model(GetParam(), data.answers, data.known, 8);
  std::vector<int64_t> items(8);
  for (int64_t i = 0; i < 8; ++i) items[static_cast<size_t>(i)] = i;
  model.observe(items, data.scores);
  EXPECT_NEAR(model.log_likelihood(),
              naive_log_likelihood(GetParam(), data, data.scores, model.state().population), 1e-9);
  EXPECT_NEAR(model.reliability(0).evidence, 7 * 0.5 + 7 * 1.0 + 6 * 0.1, 1e-5);
}

TEST_P(BothKinds, AnAnswerIsSeenThroughTheOthersOfItsRater) {
  // P(first answer | the others) = P(all) / P(all but it), whatever the rest of the model is.
  auto data = judged(3, 12, 6, 3, [](int32_t, double d, int8_t) { return sigma(d); });
  const auto one = data.answers[14];
  auto fewer = data.answers;
  fewer.erase(fewer.begin() + 14);
  RaterModel with(GetParam(), data.answers, data.known, 6),
      without(GetParam(), fewer, data.known, 6);
  with.observe(data.batch.items, data.scores);
  without.restore(with.state());
  data.batch.pairs = {
      {static_cast<int32_t>(one.first), static_cast<int32_t>(one.second), one.target, 1.0f}};
  data.batch.answers = {{0, one.rater, one.target, 1.0f, one.first_shown}};
  const double want = without.log_likelihood() - with.log_likelihood();
  EXPECT_NEAR(with.expect(data.batch, data.scores).loss, want, 1e-9);
}

TEST_P(BothKinds, StateComesBackWithAllItsBits) {
  auto data =
      judged(5, 30, 10, 4, [](int32_t r, double d, int8_t) { return r == 0 ? 0.5 : sigma(d); });
  fill_batch(data);
  RaterModel model(GetParam(), data.answers, data.known, 10);
  model.observe({0, 3, 5, 7, 9}, {0.1, 0.2, -0.3, 0.4, 2.0});  // half of the items only
  model.observe({3, 4}, {1.0, -1.0});
  RaterModel again(GetParam(), data.answers, data.known, 10);
  again.restore(model.state());
  EXPECT_EQ(model.log_likelihood(), again.log_likelihood());
  const auto a = model.expect(data.batch, data.scores), b = again.expect(data.batch, data.scores);
  EXPECT_EQ(a.loss, b.loss);
  for (size_t p = 0; p < a.pairs.size(); ++p) {
    EXPECT_EQ(a.pairs[p].target, b.pairs[p].target);
    EXPECT_EQ(a.pairs[p].weight, b.pairs[p].weight);
  }
}

INSTANTIATE_TEST_SUITE_P(RaterModel, BothKinds,
                         testing::Values(RaterKind::kOneCoin, RaterKind::kSide));

TEST(RaterModel, FindsReliabilitiesAndItsIntervalsHoldThem) {
  const int raters = 200;
  const auto q = [](int32_t r) {
    return r % 4 == 0 ? 0.3 : r % 4 == 1 ? 0.55 : r % 4 == 2 ? 0.8 : 0.95;
  };
  auto data = judged(raters, 100, 50, 5, [&](int32_t r, double d, int8_t) {
    return q(r) * sigma(d) + (1 - q(r)) * sigma(-d);
  });
  RaterModel model(RaterKind::kOneCoin, data.answers, data.known, 50);
  for (int k = 0; k < 50; ++k) model.observe(data.batch.items, data.scores);
  int inside = 0;
  double error = 0.0;
  for (int32_t r = 0; r < raters; ++r) {
    const auto found = model.reliability(r);
    EXPECT_EQ(found.answers, 100);
    EXPECT_LT(found.low, found.mean);
    EXPECT_GT(found.high, found.mean);
    inside += found.low <= q(r) && q(r) <= found.high;
    error += std::abs(found.mean - q(r)) / raters;
  }
  EXPECT_GE(inside, 184);  // 190 expected, sd 3.1
  EXPECT_LT(error, 0.06);
  EXPECT_NEAR(model.average(), 0.65, 0.03);
}

TEST(RaterModel, WhoSaysLittleStaysNearTheOthers) {
  auto data = judged(100, 60, 40, 6,
                     [](int32_t, double d, int8_t) { return 0.9 * sigma(d) + 0.1 * sigma(-d); });
  // One rater more, who answered one question the wrong way.
  data.known.resize(101);
  const bool wrong = data.scores[0] < data.scores[1];
  data.answers.push_back({.first = 0, .second = 1, .rater = 100, .target = wrong ? 1.0f : 0.0f});
  RaterModel model(RaterKind::kOneCoin, data.answers, data.known, 40);
  for (int k = 0; k < 50; ++k) model.observe(data.batch.items, data.scores);
  EXPECT_NEAR(model.average(), 0.9, 0.03);
  EXPECT_NEAR(model.reliability(100).mean, model.average(), 0.1);
  EXPECT_EQ(model.reliability(100).answers, 1);
}

TEST(RaterModel, FindsWhoPrefersAPlaceOnTheScreen) {
  auto data = judged(30, 80, 40, 7, [](int32_t r, double d, int8_t shown) {
    const double earlier = shown > 0 ? 1.0 : 0.0;
    return r < 5 ? 0.9 * earlier + 0.1 * (1 - earlier) : r < 10 ? 1 - earlier : sigma(d);
  });
  RaterModel model(RaterKind::kSide, data.answers, data.known, 40);
  for (int k = 0; k < 50; ++k) model.observe(data.batch.items, data.scores);
  for (int32_t r = 0; r < 30; ++r) {
    const auto found = model.reliability(r);
    if (r < 10) {
      EXPECT_NEAR(found.side, r < 5 ? 0.8 : -1.0, 0.2) << r;
      EXPECT_LT(found.mean, 0.25) << r;
    } else {
      EXPECT_GT(found.mean, 0.75) << r;
      EXPECT_LT(found.side_low, 0.0) << r;
      EXPECT_GT(found.side_high, 0.0) << r;
    }
  }
}

TEST(RaterModel, KnownAnswersSpeakWithoutScores) {
  const std::vector<Known> known = {{.right = 30, .wrong = 0}, {.right = 3, .wrong = 27}, {}};
  const RaterModel coin(RaterKind::kOneCoin, {}, known, 0), side(RaterKind::kSide, {}, known, 0);
  for (const auto* model : {&coin, &side}) {
    EXPECT_GT(model->reliability(0).mean, 0.9);
    EXPECT_LT(model->reliability(1).mean, 0.3);
    EXPECT_NEAR(model->reliability(2).mean, model->average(), 1e-12);
    EXPECT_NEAR(model->average(), 0.8, 0.01);  // Beta(8, 2)
    EXPECT_EQ(model->reliability(1).evidence, 30.0);
  }
  EXPECT_NEAR(coin.reliability(1).mean, (8.0 + 3.0) / 40.0, 1e-3);  // Beta(8 + 3, 2 + 27)
}

TEST(RaterModel, NobodyIsBelievedAsTheAverage) {
  PairBatch batch;
  batch.items = {0, 1};
  batch.pairs = {{0, 1, 0.75f, 1.0f}};
  batch.answers = {{0, -1, 1.0f, 1.0f, 0}, {0, -1, 0.5f, 1.0f, 0}};
  const RaterModel model(RaterKind::kOneCoin, {}, {}, 2);
  const auto expected = model.expect(batch, {1.5, 0.0});
  double p = 0.0, both = 0.0, tie = 0.0;
  double toward = 0.0;  // of the first answer
  for (int t = 0; t < 64; ++t) {
    const double q = (t + 0.5) / 64, share = model.state().population[static_cast<size_t>(t)];
    p += share * (q * sigma(1.5) + (1 - q) * sigma(-1.5));
    toward += share * q * sigma(1.5);
  }
  for (int t = 0; t < 64; ++t) {
    const double q = (t + 0.5) / 64, share = model.state().population[static_cast<size_t>(t)];
    const double first = q * sigma(1.5) + (1 - q) * sigma(-1.5);
    const double one = std::sqrt(first * (1 - first));
    both += share * one;
    tie += share * one * 0.5 * (q * sigma(1.5) / first + 1 - q * sigma(-1.5) / (1 - first));
  }
  EXPECT_NEAR(expected.loss, -0.5 * (std::log(p) + std::log(both)), 1e-6);
  EXPECT_NEAR(expected.pairs[0].weight, 1.0, 1e-6);
  EXPECT_NEAR(expected.pairs[0].target, 0.5 * (toward / p + tie / both), 1e-6);
}

TEST(RaterModel, PairsWithoutAnswersStayAsTheyAre) {
  PairBatch batch;
  batch.items = {0, 1};
  batch.pairs = {{0, 1, 0.25f, 0.5f}};
  const RaterModel model(RaterKind::kSide, {}, {}, 2);
  const auto expected = model.expect(batch, {1.0, 0.0});
  EXPECT_EQ(expected.pairs[0].target, 0.25f);
  EXPECT_EQ(expected.pairs[0].weight, 0.5f);
  EXPECT_NEAR(expected.loss, -0.5 * (0.25 * std::log(sigma(1)) + 0.75 * std::log(sigma(-1))),
              1e-12);
}

TEST(RaterModel, NamesWhatItCannotUse) {
  const std::vector<Known> two(2);
  const auto make = [&](int64_t item, int32_t rater) {
    return RaterModel(RaterKind::kOneCoin, {{.first = 0, .second = item, .rater = rater}}, two, 2);
  };
  EXPECT_NO_THROW(make(1, 1));
  EXPECT_THROW(make(2, 1), data::InputError);
  EXPECT_THROW(make(-1, 1), data::InputError);
  EXPECT_THROW(make(1, 2), data::InputError);
  EXPECT_THROW(make(1, -1), data::InputError);
  auto model = make(1, 0);
  EXPECT_THROW(model.restore({{0.0}, model.state().population}), data::InputError);
  EXPECT_THROW(model.restore({{0.0, 1.0}, {1.0}}), data::InputError);
}

}  // namespace
}  // namespace hone::reward
