#pragma once

// Judgements by made-up people whose reliability is known (ALGORITHMS.md E9, FEEDBACK.md T2), and
// linear scores fitted to them with and without a rater model.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "reward/rater_model.h"

namespace hone::experiments {

/// How a made-up rater answers: the better text's way with probability `follows`, else the other
/// way round; with probability `side` it is the text shown first, whatever it says, with
/// probability `earlier`.
struct MadeRater {
  double follows = 1.0, side = 0.0, earlier = 0.5;
};

struct RaterTask {
  at::Tensor features;  // [items, D] float64
  at::Tensor truth;     // [items] float64: true scores
  std::vector<MadeRater> raters;
  std::vector<reward::RaterAnswer> answers;  // by rater
  std::vector<float> clean;                  // the same answers, had all raters followed
  std::vector<reward::PreferenceData::Known> known;
  at::Tensor test;  // [pairs, 2] int64: items not judged, for accuracy
};

/// Pairs of fresh items with `dimensions` features each judged once: E9. Nobody's answer is
/// certain: the better text is the one that Bradley-Terry draws.
RaterTask single_judgements(const std::vector<MadeRater>& raters, int64_t pairs, uint64_t seed);

/// `comparisons` of `items` items by their true scores, sides at random, evenly dealt to raters:
/// T2. A share `gold` of them, of pairs that are far apart, have known answers.
RaterTask repeated_items(const std::vector<MadeRater>& raters, int64_t items, int64_t comparisons,
                         double gold, uint64_t seed);

struct LinearFit {
  at::Tensor scores;                // [items] float64
  std::vector<double> reliability;  // by rater; empty without a rater model
};

enum class Weighting { kEqual, kClean, kOneCoin, kSide };

/// Ridge-penalised maximum likelihood by Newton's method; with a rater model, an EM step of it
/// before each. `only` leaves other raters out (empty: none).
LinearFit fit_scores(const RaterTask& task, Weighting weighting, double ridge,
                     const std::vector<bool>& only = {});

/// Largest difference between the slopes that RaterModel::expect gives the scores and central
/// differences of RaterModel::log_likelihood, relative to the largest slope.
double gradient_error(reward::RaterKind kind, uint64_t seed);

}  // namespace hone::experiments
