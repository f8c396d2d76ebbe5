#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <set>

#include "data/quality/alpha.h"
#include "data/quality/intervals.h"
#include "data/quality/span_agreement.h"

namespace hone::data::quality {
namespace {

/// Krippendorff's own example (2011): 4 people, 12 units, some values missing (0).
std::vector<Coding> krippendorffs_example() {
  const std::vector<std::vector<int>> people = {{1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0},
                                                {1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3},
                                                {0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0},
                                                {1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0}};
  std::vector<Coding> codings;
  for (const auto& one : people) {
    for (std::size_t unit = 0; unit < one.size(); ++unit) {
      if (one[unit] > 0) codings.push_back({static_cast<int64_t>(unit), double(one[unit])});
    }
  }
  return codings;
}

TEST(Alpha, IsThatOfThePublishedExample) {
  const auto codings = krippendorffs_example();
  EXPECT_NEAR(krippendorff_alpha(codings, Distance::kNominal).value, 0.743, 0.0005);
  EXPECT_NEAR(krippendorff_alpha(codings, Distance::kOrdinal).value, 0.815, 0.0005);
  const Alpha interval = krippendorff_alpha(codings, Distance::kInterval);
  EXPECT_NEAR(interval.value, 0.849, 0.0005);
  EXPECT_EQ(interval.units, 11);
  EXPECT_EQ(interval.codings, 40);
  EXPECT_LT(interval.interval.low, interval.value);
  EXPECT_GE(interval.interval.high, interval.value);
  const Alpha again = krippendorff_alpha(codings, Distance::kInterval);
  EXPECT_EQ(again.interval.low, interval.interval.low);
}

/// The definition by double loops over pairs of values.
double alpha_by_pairs(const std::vector<Coding>& codings, Distance distance) {
  std::map<int64_t, std::vector<double>> units;
  for (const auto& one : codings) units[one.unit].push_back(one.value);
  std::vector<double> all;
  for (const auto& [unit, values] : units) {
    if (values.size() > 1) all.insert(all.end(), values.begin(), values.end());
  }
  const auto d2 = [&](double a, double b) {
    if (a == b) return 0.0;
    if (distance == Distance::kNominal) return 1.0;
    if (distance == Distance::kInterval) return (a - b) * (a - b);
    double ranks = 0;
    for (const double value : all) {
      if (value == a || value == b) ranks += 0.5;
      if (value > std::min(a, b) && value < std::max(a, b)) ranks += 1;
    }
    return ranks * ranks;
  };
  double observed = 0, expected = 0;
  for (const auto& [unit, values] : units) {
    if (values.size() < 2) continue;
    double sum = 0;
    for (const double a : values) {
      for (const double b : values) sum += d2(a, b);
    }
    observed += sum / static_cast<double>(values.size() - 1);
  }
  for (const double a : all) {
    for (const double b : all) expected += d2(a, b);
  }
  const auto n = static_cast<double>(all.size());
  return 1 - (observed / n) / (expected / (n * (n - 1)));
}

TEST(Alpha, IsThatOfDoubleLoopsOnRandomValues) {
  std::mt19937 random(3);
  for (int trial = 0; trial < 20; ++trial) {
    std::vector<Coding> codings;
    for (int i = 0; i < 60; ++i) {
      const auto unit = static_cast<int64_t>(random() % 20);
      codings.push_back({unit, static_cast<double>((unit + random() % 4) % 6) - 2.5});
    }
    for (const auto distance : {Distance::kNominal, Distance::kOrdinal, Distance::kInterval}) {
      EXPECT_NEAR(krippendorff_alpha(codings, distance, 0).value, alpha_by_pairs(codings, distance),
                  1e-12);
    }
  }
  EXPECT_TRUE(std::isnan(krippendorff_alpha({}, Distance::kNominal).value));
  EXPECT_TRUE(std::isnan(krippendorff_alpha({{1, 2.0}, {1, 2.0}}, Distance::kNominal).value));
}

TEST(Alpha, IntervalCoversAsOftenAsItSays) {
  // A population of which alpha is known to three digits from a very large sample.
  std::mt19937 random(5);
  const auto sample = [&](int units) {
    std::vector<Coding> codings;
    for (int unit = 0; unit < units; ++unit) {
      const int truth = static_cast<int>(random() % 3);
      for (int coder = 0; coder < 3; ++coder) {
        codings.push_back({unit, double(random() % 10 < 7 ? truth : int(random() % 3))});
      }
    }
    return codings;
  };
  const double truth = krippendorff_alpha(sample(60000), Distance::kNominal, 0).value;
  int covered = 0;
  constexpr int kTrials = 150;
  for (int trial = 0; trial < kTrials; ++trial) {
    const auto alpha = krippendorff_alpha(sample(120), Distance::kNominal, 200);
    covered += alpha.interval.low <= truth && truth <= alpha.interval.high;
  }
  EXPECT_GT(covered, kTrials * 88 / 100);
  EXPECT_LT(covered, kTrials);
}

TEST(SpanAgreement, IsThatOfWhatWasMarkedByHand) {
  // "abcdefghij": one person marks cdef, another efgh; on four code points they differ, on two they
  // agree, on four nobody marked.
  const std::vector<Marking> half = {{0, 10, {{2, 6, 1}}}, {0, 10, {{4, 8, 1}}}};
  const auto found = span_agreement(half);
  EXPECT_DOUBLE_EQ(found.f1, 0.5);
  // 20 values, 8 of them marks: 1 - 19 * 4 / (8 * 12).
  EXPECT_NEAR(found.value, 1 - 19.0 * 4 / 96, 1e-12);
  EXPECT_EQ(found.units, 1);
  EXPECT_EQ(found.codings, 2);
  EXPECT_EQ(span_agreement({half[0], half[0]}).value, 1.0);
  // Half of the labels are half of an agreement.
  const auto both = span_agreement({{0, 2, {{0, 2, 1}, {0, 2, 2}}}, {0, 2, {{0, 2, 1}}}});
  EXPECT_NEAR(both.f1, 2.0 * 2 / 6, 1e-12);
  EXPECT_NEAR(both.value, 1 - 3 * (2 * 0.5) / (2 * 2 * 0.5), 1e-12);
  // Nothing to compare: nobody marked, one person, no text.
  EXPECT_TRUE(std::isnan(span_agreement({{0, 5, {}}, {0, 5, {}}}).value));
  EXPECT_EQ(span_agreement({{0, 5, {}}, {0, 5, {}}}).f1, 1.0);
  EXPECT_TRUE(std::isnan(span_agreement({{0, 5, {{0, 5, 1}}}}).value));
  EXPECT_TRUE(std::isnan(span_agreement({}).f1));
  EXPECT_EQ(span_agreement({{0, 0, {{0, 5, 1}}}, {0, 0, {}}}).f1, 1.0);
}

/// Both definitions, code point by code point.
void expect_as_by_code_points(const std::vector<Marking>& markings) {
  const auto set_at = [](const Marking& one, int64_t place) {
    std::set<uint32_t> labels;
    for (const Mark& mark : one.marks) {
      if (mark.start <= place && place < mark.end) labels.insert(mark.label);
    }
    return labels;
  };
  const auto shared = [](const std::set<uint32_t>& a, const std::set<uint32_t>& b) {
    double count = 0;
    for (const uint32_t label : a) count += static_cast<double>(b.count(label));
    return count;
  };
  const auto d2 = [&](const std::set<uint32_t>& a, const std::set<uint32_t>& b) {
    const double both = shared(a, b), either = static_cast<double>(a.size() + b.size()) - both;
    return either == 0 ? 0.0 : 1 - both / either;
  };
  std::map<int64_t, std::vector<Marking>> texts;
  for (const Marking& one : markings) texts[one.text].push_back(one);
  std::map<std::set<uint32_t>, double> given;
  double n = 0, observed = 0, expected = 0, f1 = 0, read = 0;
  for (const auto& [text, people] : texts) {
    if (people.size() < 2) continue;
    ++read;
    for (int64_t place = 0; place < people[0].length; ++place) {
      for (const Marking& one : people) {
        ++given[set_at(one, place)];
        ++n;
        for (const Marking& other : people) {
          if (&one != &other) {
            observed += d2(set_at(one, place), set_at(other, place)) /
                        static_cast<double>(people.size() - 1);
          }
        }
      }
    }
    double sum = 0, pairs = 0;
    for (std::size_t p = 0; p < people.size(); ++p) {
      for (std::size_t q = 0; q < p; ++q, ++pairs) {
        double both = 0, marked = 0;
        for (int64_t place = 0; place < people[0].length; ++place) {
          const auto a = set_at(people[p], place), b = set_at(people[q], place);
          both += shared(a, b);
          marked += static_cast<double>(a.size() + b.size());
        }
        sum += marked > 0 ? 2 * both / marked : 1;
      }
    }
    f1 += sum / pairs;
  }
  for (const auto& [a, count_a] : given) {
    for (const auto& [b, count_b] : given) expected += count_a * count_b * d2(a, b);
  }
  const auto found = span_agreement(markings, 0);
  EXPECT_NEAR(found.value, 1 - (n - 1) * observed / expected, 1e-9);
  EXPECT_NEAR(found.f1, f1 / read, 1e-12);
}

TEST(SpanAgreement, IsThatOfDoubleLoopsOnRandomMarks) {
  std::mt19937 random(3);
  for (int round = 0; round < 50; ++round) {
    std::vector<Marking> markings;
    for (int64_t text = 0; text < 5; ++text) {
      const int64_t length = 1 + static_cast<int64_t>(random() % 40);
      const unsigned people = 1 + random() % 4;
      for (unsigned person = 0; person < people; ++person) {
        Marking& one = markings.emplace_back(Marking{text, length, {}});
        for (unsigned count = random() % 5; count > 0; --count) {
          const auto a = static_cast<int64_t>(random() % (length + 1)),
                     b = static_cast<int64_t>(random() % (length + 1));
          one.marks.push_back(
              {std::min(a, b), std::max(a, b), static_cast<uint32_t>(random() % 3)});
        }
      }
    }
    markings.push_back({99, 9, {{0, 3, 0}}});
    markings.push_back({99, 9, {{2, 5, 0}}});
    expect_as_by_code_points(markings);
  }
}

TEST(SpanAgreement, ItsIntervalHoldsTheValueAndNarrowsWithTexts) {
  std::mt19937 random(5);
  double width = 2;
  for (const int texts : {10, 100, 1000}) {
    std::vector<Marking> markings;
    for (int64_t text = 0; text < texts; ++text) {
      const auto start = static_cast<int64_t>(random() % 50);
      for (int person = 0; person < 2; ++person) {
        const auto off = static_cast<int64_t>(random() % 8);
        markings.push_back({text, 100, {{start + off, start + off + 20, 1}}});
      }
    }
    const auto found = span_agreement(markings, 200);
    EXPECT_LE(found.interval.low, found.value);
    EXPECT_GE(found.interval.high, found.value);
    EXPECT_LT(found.interval.high - found.interval.low, width);
    width = (found.interval.high - found.interval.low) / 2;
  }
}

TEST(Intervals, WilsonIsThatOfTheFormula) {
  // 8 of 10: (0.4902, 0.9433), Newcombe (1998), method 3.
  const Interval interval = wilson_interval(8, 10);
  EXPECT_NEAR(interval.low, 0.4902, 1e-4);
  EXPECT_NEAR(interval.high, 0.9433, 1e-4);
  EXPECT_EQ(wilson_interval(0, 0).high, 1.0);
}

TEST(Intervals, TheConfidenceSequenceHoldsAtAllTimesTogether) {
  std::mt19937 random(9);
  int ever_outside = 0, wilson_outside = 0;
  constexpr int kTrials = 400, kLength = 300;
  for (int trial = 0; trial < kTrials; ++trial) {
    int64_t right = 0;
    bool outside = false, wilson = false;
    for (int64_t n = 1; n <= kLength; ++n) {
      right += random() % 10 < 8;
      const Interval always = confidence_sequence(right, n), once = wilson_interval(right, n);
      outside = outside || always.low > 0.8 || always.high < 0.8;
      wilson = wilson || once.low > 0.8 || once.high < 0.8;
    }
    ever_outside += outside;
    wilson_outside += wilson;
  }
  EXPECT_LE(ever_outside, kTrials * 5 / 100);
  EXPECT_GT(wilson_outside, kTrials * 15 / 100);  // which is why it does not do for watching
  const Interval many = confidence_sequence(8000, 10000);
  EXPECT_NEAR(many.low, 0.785, 0.005);
  EXPECT_NEAR(many.high, 0.814, 0.005);
  // Ten gold questions are no verdict.
  EXPECT_GT(confidence_sequence(6, 10).high, 0.9);
}

}  // namespace
}  // namespace hone::data::quality
