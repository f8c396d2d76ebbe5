#include "reward/acquisition.h"

#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <queue>

#include "data/error.h"
#include "reward/random.h"

namespace hone::reward {
namespace {

constexpr struct {
  AcquisitionRule rule;
  const char* name;
} kRules[] = {{AcquisitionRule::kRandom, "random"},
              {AcquisitionRule::kEntropy, "entropy"},
              {AcquisitionRule::kVariance, "variance"},
              {AcquisitionRule::kBald, "bald"},
              {AcquisitionRule::kDOptimal, "d_optimal"}};

/// Nats of a yes or no with probability p.
double binary_entropy(double p) {
  const double q = 1.0 - p;
  return (p > 0.0 ? -p * std::log(p) : 0.0) + (q > 0.0 ? -q * std::log(q) : 0.0);
}

/// E p and E f(p), p = P(first | z).
template <class F>
std::pair<double, double> expectations(const PairBelief& belief, const PairLikelihood& likelihood,
                                       F&& f) {
  const auto& [nodes, weights] = normal_quadrature();
  const double deviation = std::sqrt(belief.variance);
  double mean = 0.0, of_f = 0.0;
  for (size_t n = 0; n < nodes.size(); ++n) {
    const double p = likelihood.probability(belief.mean + deviation * nodes[n]);
    mean += weights[n] * p;
    of_f += weights[n] * f(p);
  }
  return {mean, of_f};
}

double probability_variance(const PairBelief& belief, const PairLikelihood& likelihood) {
  const auto [mean, square] = expectations(belief, likelihood, [](double p) { return p * p; });
  return std::max(0.0, square - mean * mean);
}

NormalQuadrature make_quadrature() {
  constexpr int64_t kNodes = 64;
  // Jacobi matrix of the Hermite polynomials that are orthogonal under N(0, 1).
  const at::Tensor jacobi = at::zeros({kNodes, kNodes}, at::kDouble);
  double* j = jacobi.data_ptr<double>();
  for (int64_t n = 1; n < kNodes; ++n) {
    j[(n - 1) * kNodes + n] = j[n * kNodes + n - 1] = std::sqrt(static_cast<double>(n));
  }
  const auto [values, vectors] = at::linalg_eigh(jacobi);
  const at::Tensor first = vectors.select(0, 0).square().contiguous();
  NormalQuadrature rule;
  for (int64_t n = 0; n < kNodes; ++n) {
    rule.nodes.push_back(values.const_data_ptr<double>()[n]);
    rule.weights.push_back(first.const_data_ptr<double>()[n]);
  }
  return rule;
}

/// Picks one after the other; what a pick will have taught lowers the variance of the others.
class Greedy {
 public:
  Greedy(const Posterior& posterior, const at::Tensor& features,
         const std::vector<FeaturePair>& candidates, const std::vector<PairBelief>& beliefs,
         AcquisitionRule rule)
      : posterior_(posterior),
        features_(features.contiguous()),
        candidates_(candidates),
        now_(beliefs),
        rule_(rule) {
    for (size_t p = 0; p < candidates.size(); ++p) queue_.push({score(p), p});
  }

  SelectedPair next() {
    // Variances only fall, and every score falls with them: the best of the old scores that is
    // still the best when made anew is the best of all.
    while (true) {
      const Entry top = queue_.top();
      queue_.pop();
      const double fresh = score(top.pair);
      if (!queue_.empty() && Entry{fresh, top.pair} < queue_.top()) {
        queue_.push({fresh, top.pair});
        continue;
      }
      take(top.pair);
      SelectedPair selected;
      selected.pair = top.pair;
      selected.score = fresh;
      return selected;
    }
  }

 private:
  struct Entry {
    double score;
    size_t pair;
    bool operator<(const Entry& other) const {
      return score != other.score ? score < other.score : pair > other.pair;
    }
  };
  double score(size_t pair) const {
    return acquisition_score(rule_, now_[pair], posterior_.likelihood());
  }
  void take(size_t pair) {
    if (rule_ == AcquisitionRule::kEntropy) return;
    const at::Tensor difference = feature_difference(features_, candidates_[pair]);
    const double information = now_[pair].information;
    const double shrink = information / (1.0 + information * now_[pair].variance);
    const at::Tensor along = at::mv(features_, at::mv(posterior_.covariance(), difference));
    posterior_.add(difference, information);
    const double* u = along.const_data_ptr<double>();
    for (size_t p = 0; p < candidates_.size(); ++p) {
      const auto [first, second] = candidates_[p];
      const double overlap = u[first] - (second < 0 ? 0.0 : u[second]);
      now_[p].variance = std::max(0.0, now_[p].variance - shrink * overlap * overlap);
    }
  }

  Posterior posterior_;
  at::Tensor features_;
  const std::vector<FeaturePair>& candidates_;
  std::vector<PairBelief> now_;
  AcquisitionRule rule_;
  std::priority_queue<Entry> queue_;
};

void check(const SelectionOptions& options) {
  const auto fail = [](const char* what, const char* expected, const std::string& got) {
    throw data::InputError("selection", what, expected, got);
  };
  if (options.count < 1) fail("count", "1 or more", std::to_string(options.count));
  if (!(options.random_share >= 0.0 && options.random_share <= 1.0)) {
    fail("random share", "0 to 1", std::to_string(options.random_share));
  }
}

/// `picked` by the rule and `drawn` by chance, each kind spread evenly.
std::vector<SelectedPair> interleaved(const std::vector<SelectedPair>& picked,
                                      const std::vector<SelectedPair>& drawn) {
  std::vector<SelectedPair> order;
  const size_t total = picked.size() + drawn.size();
  size_t chance = 0;
  for (size_t n = 0; n < total; ++n) {
    const bool due = (n + 1) * drawn.size() / total > chance;
    order.push_back(due ? drawn[chance] : picked[n - chance]);
    if (due) ++chance;
  }
  return order;
}

}  // namespace

AcquisitionRule parse_acquisition_rule(const std::string& name, const std::string& where) {
  for (const auto& each : kRules) {
    if (name == each.name) return each.rule;
  }
  throw data::InputError(where, "rule", kAcquisitionRules, "'" + name + "'");
}

const char* rule_name(AcquisitionRule rule) {
  for (const auto& each : kRules) {
    if (rule == each.rule) return each.name;
  }
  return "";
}

const NormalQuadrature& normal_quadrature() {
  static const NormalQuadrature rule = make_quadrature();
  return rule;
}

double acquisition_score(AcquisitionRule rule, const PairBelief& belief,
                         const PairLikelihood& likelihood) {
  switch (rule) {
    case AcquisitionRule::kEntropy:
      return binary_entropy(belief.probability);
    case AcquisitionRule::kVariance:
      return probability_variance(belief, likelihood);
    case AcquisitionRule::kBald: {
      const auto [mean, entropy] = expectations(belief, likelihood, binary_entropy);
      return binary_entropy(mean) - entropy;
    }
    case AcquisitionRule::kDOptimal:
      return std::log1p(belief.information * belief.variance);
    case AcquisitionRule::kRandom:
      break;
  }
  return 0.0;
}

double probability_spread(const PairBelief& belief, const PairLikelihood& likelihood) {
  return std::sqrt(probability_variance(belief, likelihood));
}

std::vector<SelectedPair> select_pairs(const Posterior& posterior, const at::Tensor& features,
                                       const std::vector<FeaturePair>& candidates,
                                       const SelectionOptions& options) {
  check(options);
  const size_t total = candidates.size();
  const size_t count = std::min(total, static_cast<size_t>(options.count));
  const auto beliefs = posterior.beliefs(features, candidates);
  const double share = options.rule == AcquisitionRule::kRandom ? 1.0 : options.random_share;
  const auto by_chance =
      std::min(count, static_cast<size_t>(std::ceil(share * static_cast<double>(count) - 1e-9)));

  std::vector<SelectedPair> picked, drawn;
  std::vector<bool> taken(total, false);
  if (count > by_chance) {
    Greedy greedy(posterior, features, candidates, beliefs, options.rule);
    while (picked.size() < count - by_chance) {
      picked.push_back(greedy.next());
      taken[picked.back().pair] = true;
    }
  }
  std::vector<size_t> left;
  for (size_t p = 0; p < total; ++p) {
    if (!taken[p]) left.push_back(p);
  }
  Random random(options.seed, 1);
  for (size_t n = 0; n < by_chance; ++n) {  // without replacement: the front of a shuffle
    std::swap(left[n], left[n + random.below(left.size() - n)]);
    SelectedPair selected;
    selected.pair = left[n];
    selected.by_rule = false;
    selected.propensity = static_cast<double>(by_chance) / static_cast<double>(left.size());
    selected.stratum = static_cast<int64_t>(left.size());
    selected.score = acquisition_score(options.rule, beliefs[left[n]], posterior.likelihood());
    drawn.push_back(selected);
  }
  for (auto& selected : picked) selected.stratum = static_cast<int64_t>(picked.size());
  auto order = interleaved(picked, drawn);
  for (auto& selected : order) selected.belief = beliefs[selected.pair];
  return order;
}

}  // namespace hone::reward
