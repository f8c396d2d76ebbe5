#include "reward/routing.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "data/error.h"
#include "kernels/math/logistic.h"
#include "reward/margins.h"

namespace hone::reward {
namespace {

// Percent. Few judged choices may lie near 1: a sequence that starts there may end at once, one
// that starts lower may go on. Each start takes an equal part of the probability to err.
constexpr int kHighest = 99, kLowest = 50;
constexpr int kStarts[] = {99, 90, 75};

struct Count {
  int64_t straight = 0, wrong = 0;
};

Count count_at(const std::vector<JudgedChoice>& choices, double threshold) {
  Count count;
  for (const auto& choice : choices) {
    if (choice.confidence < threshold) continue;
    ++count.straight;
    count.wrong += choice.wrong;
  }
  return count;
}

void check_goal(const char* name, double value) {
  if (value > 0.0 && value < 1.0) return;
  throw data::InputError("routing", name, "a number between 0 and 1", std::to_string(value));
}

}  // namespace

double choice_confidence(double margin, double temperature) {
  return kernels::math::logistic(margin / temperature);
}

std::vector<JudgedChoice> judged_choices(const std::vector<float>& scores,
                                         const std::vector<Vote>& votes, double temperature) {
  std::vector<JudgedChoice> choices;
  for_each_margin(scores, votes, [&](double margin) {
    choices.push_back({choice_confidence(std::abs(margin), temperature), !(margin > 0.0)});
  });
  return choices;
}

double binomial_tail(int64_t successes, int64_t trials, double probability) {
  if (successes >= trials) return 1.0;
  const auto n = static_cast<double>(trials);
  const double log_p = std::log(probability), log_q = std::log1p(-probability);
  double sum = 0.0;
  for (int64_t k = 0; k <= successes; ++k) {
    const auto x = static_cast<double>(k);
    sum += std::exp(std::lgamma(n + 1) - std::lgamma(x + 1) - std::lgamma(n - x + 1) + x * log_p +
                    (n - x) * log_q);
  }
  return std::min(sum, 1.0);
}

RoutingRule fit_routing(const std::vector<JudgedChoice>& choices, const RoutingGoal& goal) {
  check_goal("risk", goal.risk);
  check_goal("failure", goal.failure);
  const double level = goal.failure / static_cast<double>(std::size(kStarts));
  int lowest = kHighest + 1;
  for (const int start : kStarts) {
    for (int percent = start; percent >= kLowest; --percent) {
      const auto [straight, wrong] = count_at(choices, percent / 100.0);
      if (binomial_tail(wrong, straight, goal.risk) > level) break;
      lowest = std::min(lowest, percent);
    }
  }
  RoutingRule rule;
  rule.judged = static_cast<int64_t>(choices.size());
  if (lowest > kHighest) return rule;
  rule.threshold = lowest / 100.0;
  const auto count = count_at(choices, rule.threshold);
  rule.straight = count.straight;
  rule.wrong = count.wrong;
  return rule;
}

CoverageCurve coverage_curve(std::vector<JudgedChoice> choices) {
  CoverageCurve curve;
  if (choices.empty()) return curve;
  std::sort(choices.begin(), choices.end(),
            [](const auto& a, const auto& b) { return a.confidence > b.confidence; });
  const auto n = static_cast<double>(choices.size());
  std::vector<double> wrong;  // of the k + 1 most confident
  double before = 0;
  for (size_t first = 0; first < choices.size();) {
    size_t last = first;
    double errors = 0;
    for (; last < choices.size() && choices[last].confidence == choices[first].confidence; ++last) {
      errors += choices[last].wrong;
    }
    const double each = errors / static_cast<double>(last - first);
    for (; first < last; ++first) wrong.push_back(before += each);
  }
  const double right = n - before;
  for (size_t k = 0; k < wrong.size(); ++k) {
    const auto taken = static_cast<double>(k + 1);
    curve.area += wrong[k] / taken / n;
    curve.least_area += std::max(0.0, taken - right) / taken / n;
  }
  curve.random_area = before / n;
  for (int tenth = 1; tenth <= 10; ++tenth) {
    const auto taken = static_cast<size_t>(std::ceil(n * tenth / 10.0));
    curve.points.push_back({tenth / 10.0, choices[taken - 1].confidence,
                            1.0 - wrong[taken - 1] / static_cast<double>(taken)});
  }
  return curve;
}

}  // namespace hone::reward
