#pragma once

// How reliable each rater is, estimated jointly with the scores of the texts.
//
// A rater's answer y = +-1 about two texts whose scores differ by d has probability
//   one coin: q sigma(y d) + (1 - q) sigma(-y d)        Crowd-BT: Chen et al. 2013, "Pairwise
//                                                        ranking aggregation in a crowdsourced
//                                                        setting"
//   side:     g sigma(y d) + (1 - g) u(y)               u: b for the text that stood earlier on
//                                                        the screen, 1 - b for the other, 1/2 each
//                                                        where the order is not known
// and a tie is half an answer for each text (the root of both probabilities). Raters are of types:
// a grid of q, or of (g, b). How common each type is, the population, is learned by EM from a
// beta-shaped beginning that is worth two raters (nonparametric maximum likelihood: Kiefer and
// Wolfowitz 1956, Laird 1978), and a rater with few answers stays where most raters are. The type
// is integrated out: scores see an answer through what the rater's other answers say of them, so
// that nobody vouches for himself. Everything in double precision, in a fixed order.

#include <array>
#include <cstdint>
#include <vector>

#include "reward/preference_data.h"

namespace hone::reward {

enum class RaterKind { kOneCoin, kSide };

class RaterModel {
 public:
  /// `answers` by rater (PreferenceData::answers); `known` (by rater) says how many raters there
  /// are, and of questions with known answers how many each got right, which pins them without the
  /// scores. Items are numbers below `items`. Throws data::InputError for others.
  RaterModel(RaterKind kind, std::vector<RaterAnswer> answers,
             const std::vector<PreferenceData::Known>& known, int64_t items);

  /// What the texts of a batch should learn from its answers if their scores are `scores` (by place
  /// in the batch). The gradient of sum_p weight_p (-t_p log sigma(d_p) - (1 - t_p) log
  /// sigma(-d_p)) over the pairs returned is that of minus the log of the probability of the
  /// batch's answers, the types integrated out; each answer has an equal part of its pair's weight
  /// (EM's E step; Fisher's identity makes it exact). Pairs without answers come back as they are.
  struct Expected {
    std::vector<Pair> pairs;
    double loss = 0;  // weighted mean of -log P(answer | the rater's other answers), nats
  };
  Expected expect(const PairBatch& batch, const std::vector<double>& scores) const;

  /// Takes new scores (by place) of `items`, then one EM step of the population. Until both texts
  /// of an answer have a score it says nothing about its rater.
  void observe(const std::vector<int64_t>& items, const std::vector<double>& scores);

  struct Reliability {
    double mean = 0, low = 0, high = 1;  // q, or g; posterior mean and 95 % interval
    /// side: of 100 answers, how many more than its due the earlier text gets, (1 - g)(2 b - 1), in
    /// parts of one.
    double side = 0, side_low = -1, side_high = 1;
    int64_t answers = 0;  // that were used
    double evidence = 0;  // independent answers, and known ones
  };
  Reliability reliability(int64_t rater) const;
  int64_t raters() const { return static_cast<int64_t>(begin_.size()) - 1; }
  /// Mean of the population: what is believed of somebody of whom nothing is known.
  double average() const;
  /// log of the probability of all answers with scores, types integrated out (evidence as
  /// exponent).
  double log_likelihood() const;

  /// What a checkpoint keeps: the last score of each item (NaN: none yet), and the population.
  struct State {
    std::vector<double> scores, population;
  };
  const State& state() const { return state_; }
  /// Throws data::InputError when the sizes are others.
  void restore(State state);

 private:
  /// P(answer) of a type is constant + slope * sigma(y d); follow is its q or g.
  struct Types {
    std::vector<double> follow, slope;
    std::array<std::vector<double>, 3> constant;  // chosen text shown later, unknown, earlier
    std::vector<double> side;                     // (1 - g)(2 b - 1)
    std::vector<double> base;                     // the population's beginning
  };
  static Types one_coin_types();
  static Types side_types();
  double difference(const RaterAnswer& answer) const;
  void refresh(int64_t rater);  // likelihood_ of one rater
  std::vector<double> posterior(int64_t rater) const;

  RaterKind kind_;
  Types types_;
  std::vector<RaterAnswer> answers_;
  std::vector<int64_t> begin_;  // of each rater's answers, and the end
  std::vector<PreferenceData::Known> known_;
  std::vector<int64_t> item_begin_;  // raters of each item
  std::vector<int32_t> item_raters_;
  State state_;
  std::vector<double> likelihood_;  // [raters, types], the largest of a rater 1
  std::vector<double> log_scale_;   // what that took out
  std::vector<int64_t> used_;       // answers with scores, by rater
};

}  // namespace hone::reward
