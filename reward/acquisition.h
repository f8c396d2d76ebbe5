#pragma once

// Which pairs to ask people about, and with which probability each was asked.

#include <cstdint>
#include <string>
#include <vector>

#include "reward/posterior.h"

namespace hone::reward {

/// What makes a pair worth asking:
///   random     nothing
///   entropy    of the predicted answer: what the model cannot tell, whatever the reason
///   variance   of the preference probability under the posterior (Christiano et al. 2017 take it
///              over an ensemble)
///   bald       mutual information of answer and head: H(E p) - E H(p) (Houlsby et al. 2011)
///   d_optimal  log(1 + I(z) dphi^T H^-1 dphi), the volume that one answer takes off the posterior
/// The last three are greedy: each pick counts as answered for the next ones, so that a batch does
/// not ask the same thing twice. Entropy knows the mean only and cannot do that.
enum class AcquisitionRule { kRandom, kEntropy, kVariance, kBald, kDOptimal };
constexpr const char* kAcquisitionRules = "random, entropy, variance, bald or d_optimal";
/// Throws data::InputError naming `where`.
AcquisitionRule parse_acquisition_rule(const std::string& name, const std::string& where);
const char* rule_name(AcquisitionRule rule);

/// Gauss and Hermite's rule for E f(x), x ~ N(0, 1): 64 nodes (Golub and Welsch 1969).
struct NormalQuadrature {
  std::vector<double> nodes, weights;
};
const NormalQuadrature& normal_quadrature();

/// What a rule says of one pair. With z ~ N(mean, variance); to 1e-6 of the integrals while the
/// standard deviation of z is at most 3.
double acquisition_score(AcquisitionRule rule, const PairBelief& belief,
                         const PairLikelihood& likelihood);
/// Standard deviation of the preference probability.
double probability_spread(const PairBelief& belief, const PairLikelihood& likelihood);

struct SelectionOptions {
  AcquisitionRule rule = AcquisitionRule::kDOptimal;
  int64_t count = 200;
  /// Of `count`: drawn with equal odds from what the rule left, rounded up. 0: the rule alone; then
  /// nothing can be said about the pairs that it would never pick.
  double random_share = 0.2;
  uint64_t seed = 0;
};

struct SelectedPair {
  size_t pair = 0;  // index into the candidates
  bool by_rule = true;
  double propensity = 1;  // 1 for what the rule picks, drawn / left for the others
  int64_t stratum = 0;    // candidates that this one and those selected like it stand for
  PairBelief belief;      // before anything was selected
  double score = 0;       // by the rule when it was picked; of a drawn one: at first
};

/// At most `count` of the candidates, in the order in which to ask: what the rule picks in its
/// order, and drawn ones spread evenly among them, so that an unfinished batch has its share of
/// both. Every candidate had a known probability of being in it (SelectedPair::propensity), above 0
/// while random_share is. The same arguments give the same pairs. Throws data::InputError for
/// options out of range.
std::vector<SelectedPair> select_pairs(const Posterior& posterior, const at::Tensor& features,
                                       const std::vector<FeaturePair>& candidates,
                                       const SelectionOptions& options);

}  // namespace hone::reward
