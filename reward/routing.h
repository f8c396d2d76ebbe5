#pragma once

// Which of a model's choices may go straight through and which people should see: a threshold on
// confidence with a guarantee, learned from choices that people judged (Angelopoulos, Bates,
// Candes, Jordan, Lei: Learn then Test, 2021), and how accuracy falls as more goes through.

#include <cstdint>
#include <vector>

#include "reward/preference_data.h"

namespace hone::reward {

/// A choice between texts that the model made and that people judged. Choices are taken as
/// independent draws of what will be routed.
struct JudgedChoice {
  double confidence = 0.5;  // probability that people agree, by the model
  bool wrong = false;       // they did not
};

/// Probability that people agree with a choice whose score is `margin` above the next best one's:
/// sigma(margin / temperature).
double choice_confidence(double margin, double temperature);

/// The choices that scores (indexed by item) make of votes without ties: of the confidence above.
/// Equal scores choose nothing and count as wrong.
std::vector<JudgedChoice> judged_choices(const std::vector<float>& scores,
                                         const std::vector<Vote>& votes, double temperature);

struct RoutingGoal {
  double risk = 0.1;     // at most this share of what goes straight may be wrong,
  double failure = 0.1;  // but for this probability over the judged choices
};

struct RoutingRule {
  /// Choices at least this confident go straight; above 1 none does.
  double threshold = 2.0;
  int64_t judged = 0;               // choices that the rule was learned from
  int64_t straight = 0, wrong = 0;  // of those: would go straight; and be wrong
};

/// The lowest threshold of 0.50, 0.51 .. 0.99 at which a risk above the goal's is refuted: an exact
/// binomial test at each, in sequences that go down from several starts and end at the first that
/// fails, so that all the tests together err with probability `failure` at most. No threshold:
/// every choice goes to people. Throws data::InputError for goals outside (0, 1).
RoutingRule fit_routing(const std::vector<JudgedChoice>& choices, const RoutingGoal& goal);

/// P(X <= successes) for X of the binomial distribution; 1 without trials.
double binomial_tail(int64_t successes, int64_t trials, double probability);

struct CoverageCurve {
  struct Point {
    double coverage = 0;    // share of choices that go straight, the most confident first
    double confidence = 0;  // of the least confident of them
    double accuracy = 0;
  };
  std::vector<Point> points;  // coverage 0.1, 0.2 .. 1
  /// Mean over k of the share that is wrong among the k most confident choices; the same in random
  /// order, and with all wrong ones last (Geifman, Uziel, El-Yaniv 2019).
  double area = 0, random_area = 0, least_area = 0;
};

/// Choices of equal confidence share their errors evenly. Empty without choices.
CoverageCurve coverage_curve(std::vector<JudgedChoice> choices);

}  // namespace hone::reward
