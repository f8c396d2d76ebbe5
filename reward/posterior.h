#pragma once

// What a reward model does not know: the Laplace approximation of its last layer. The head w has
// the prior N(0, I / prior_precision); a judgement of the pair (a, b) has a likelihood in z = w .
// (phi_a - phi_b), phi being the hidden state that the head reads. Its posterior is taken as
// N(mean, H^-1) with H = prior_precision I + sum of I(z) dphi dphi^T over the judgements, where I
// is the Fisher information of one of them (MacKay 1992; Shen et al. 2025, arXiv 2502.04354). All
// of it is double precision on the CPU, and knows no transformer.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kernels/math/preference.h"

namespace hone::reward {

/// P(judgement | z) as kernels::preference_loss has it.
class PairLikelihood {
 public:
  PairLikelihood() : PairLikelihood({kernels::math::PreferenceModel::kBradleyTerry, 0.0, 0.0}) {}
  explicit PairLikelihood(kernels::math::PreferenceParams<double> params) : params_(params) {}
  const kernels::math::PreferenceParams<double>& params() const { return params_; }
  /// That a person who decides puts the first above the second; a lapse is either with equal odds.
  double probability(double z) const;
  /// Fisher information of one judgement about z: p (1 - p) for Bradley-Terry.
  double information(double z) const;

 private:
  kernels::math::PreferenceParams<double> params_;
};

/// Rows of a feature matrix [N, d]; second -1: none (the row is a difference already).
struct FeaturePair {
  int64_t first = 0, second = -1;
};

/// `weight` judgements of a pair, a share `target` of which put the first above.
struct JudgedPair {
  FeaturePair pair;
  double target = 0.5, weight = 1.0;
};

/// What the model believes of one pair.
struct PairBelief {
  double mean = 0, variance = 0;  // of z
  double probability = 0.5;       // that the first is preferred, z integrated out (MacKay)
  double information = 0;         // of one more judgement about z, at the mean
};

class Posterior {
 public:
  /// mean [d]; precision [d, d], symmetric and positive definite. Both double on the CPU. Throws
  /// data::InputError for anything else.
  Posterior(at::Tensor mean, at::Tensor precision, PairLikelihood likelihood = {});
  /// Nothing judged yet: mean 0 and precision prior_precision I.
  static Posterior prior(int64_t size, double prior_precision, PairLikelihood likelihood = {});
  /// The mode given the judged pairs of features [N, d], by Fisher scoring with halved steps until
  /// the gradient is below 1e-9 a judgement, and the curvature there. Of a Bradley-Terry likelihood
  /// without lapses, which is what it is meant for, there is one mode.
  static Posterior fit(const at::Tensor& features, const std::vector<JudgedPair>& judged,
                       double prior_precision, PairLikelihood likelihood = {});

  int64_t size() const { return mean_.numel(); }
  const at::Tensor& mean() const { return mean_; }            // [d]
  const at::Tensor& precision() const { return precision_; }  // H [d, d]
  const at::Tensor& covariance() const { return covariance_; }
  const PairLikelihood& likelihood() const { return likelihood_; }

  std::vector<PairBelief> beliefs(const at::Tensor& features,
                                  const std::vector<FeaturePair>& pairs) const;
  /// One more judgement of the pair with features difference [d], whatever it will say:
  /// H + information x x^T, its inverse by Sherman and Morrison's formula in O(d^2).
  void add(const at::Tensor& difference, double information);

 private:
  at::Tensor mean_, precision_, covariance_;
  PairLikelihood likelihood_;
};

/// sum of weight I(z) dphi dphi^T over the pairs, z by `head` [d]: [d, d]. Targets do not matter.
at::Tensor fisher_information(const at::Tensor& features, const std::vector<JudgedPair>& judged,
                              const at::Tensor& head, const PairLikelihood& likelihood);

/// phi_first - phi_second [d] of features [N, d].
at::Tensor feature_difference(const at::Tensor& features, const FeaturePair& pair);

}  // namespace hone::reward
