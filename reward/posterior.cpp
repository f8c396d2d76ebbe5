#include "reward/posterior.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cholesky_inverse.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/linalg_cholesky_ex.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "data/error.h"

namespace hone::reward {
namespace {

using data::InputError;
using kernels::math::PreferenceModel;

constexpr double kPi = 3.14159265358979323846;

std::string shape_of(const at::Tensor& tensor) {
  std::string text = std::string(at::toString(tensor.scalar_type())) + " [";
  for (int64_t d = 0; d < tensor.dim(); ++d) {
    text += (d ? ", " : "") + std::to_string(tensor.size(d));
  }
  return text + "]";
}

at::Tensor checked(const at::Tensor& tensor, const char* name, std::vector<int64_t> shape) {
  const bool fits = tensor.defined() && tensor.scalar_type() == at::kDouble &&
                    tensor.device().is_cpu() && tensor.sizes() == at::IntArrayRef(shape);
  if (!fits) {
    std::string expected = "Double [";
    for (size_t d = 0; d < shape.size(); ++d) {
      expected += (d ? ", " : "") + std::to_string(shape[d]);
    }
    throw InputError("posterior", name, expected + "]",
                     tensor.defined() ? shape_of(tensor) : "nothing");
  }
  return tensor.contiguous();
}

at::Tensor inverse_of(const at::Tensor& precision) {
  const auto [factor, info] = at::linalg_cholesky_ex(precision);
  if (info.item<int64_t>() != 0) {
    throw InputError("posterior", "precision", "a positive definite matrix", "another");
  }
  return at::cholesky_inverse(factor);
}

void check_features(const at::Tensor& features, int64_t size) {
  checked(features, "features",
          {features.defined() && features.dim() > 0 ? features.size(0) : 0, size});
  if (!features.isfinite().all().item<bool>()) {
    throw InputError("posterior", "features", "finite numbers", "others");
  }
}

void check_pair(const FeaturePair& pair, int64_t rows) {
  const bool fits = pair.first >= 0 && pair.first < rows && pair.second >= -1 && pair.second < rows;
  if (!fits) {
    throw InputError("posterior", "pair", "rows below " + std::to_string(rows),
                     std::to_string(pair.first) + " and " + std::to_string(pair.second));
  }
}

double difference_of(const double* scores, const FeaturePair& pair) {
  return scores[pair.first] - (pair.second < 0 ? 0.0 : scores[pair.second]);
}

/// sum over pairs of coefficient (phi_a - phi_b) at rows a and, negated, b: Y with
/// Phi^T Y = sum of coefficient dphi dphi^T. [N, d]
at::Tensor scattered(const at::Tensor& features, const std::vector<JudgedPair>& judged,
                     const std::vector<double>& coefficients) {
  const int64_t d = features.size(1);
  at::Tensor out = at::zeros_like(features);
  const double* phi = features.const_data_ptr<double>();
  double* y = out.data_ptr<double>();
  for (size_t p = 0; p < judged.size(); ++p) {
    const auto [first, second] = judged[p].pair;
    const double* a = phi + first * d;
    double* ya = y + first * d;
    if (second < 0) {
      for (int64_t k = 0; k < d; ++k) ya[k] += coefficients[p] * a[k];
      continue;
    }
    const double* b = phi + second * d;
    double* yb = y + second * d;
    for (int64_t k = 0; k < d; ++k) {
      const double term = coefficients[p] * (a[k] - b[k]);
      ya[k] += term;
      yb[k] -= term;
    }
  }
  return out;
}

}  // namespace

double PairLikelihood::probability(double z) const {
  return params_.lapse + (1.0 - 2.0 * params_.lapse) * kernels::math::logistic(z);
}

double PairLikelihood::information(double z) const {
  const double kept = 1.0 - 2.0 * params_.lapse;
  // (dP/dz)^2 / P summed over what a person may say.
  const auto term = [&](const kernels::math::LogTerm<double>& log, double floor) {
    const double model = kept * std::exp(log.value);
    const double slope = model * log.derivative, total = model + floor;
    return total > 0.0 ? slope * slope / total : 0.0;
  };
  const auto outcomes = kernels::math::log_outcomes(z, params_);
  double sum = term(outcomes.first, params_.lapse) + term(outcomes.second, params_.lapse);
  if (params_.model != PreferenceModel::kBradleyTerry) {
    const auto tie = kernels::math::log_tie(z, params_);
    if (std::isfinite(tie.value)) sum += term(tie, 0.0);
  }
  return sum;
}

at::Tensor feature_difference(const at::Tensor& features, const FeaturePair& pair) {
  check_pair(pair, features.size(0));
  const at::Tensor first = features.select(0, pair.first);
  return pair.second < 0 ? first.clone() : first - features.select(0, pair.second);
}

at::Tensor fisher_information(const at::Tensor& features, const std::vector<JudgedPair>& judged,
                              const at::Tensor& head, const PairLikelihood& likelihood) {
  check_features(features, head.numel());
  const at::Tensor rows = features.contiguous();
  const at::Tensor scores = at::mv(rows, head);
  std::vector<double> coefficients;
  coefficients.reserve(judged.size());
  for (const auto& one : judged) {
    check_pair(one.pair, rows.size(0));
    coefficients.push_back(one.weight * likelihood.information(difference_of(
                                            scores.const_data_ptr<double>(), one.pair)));
  }
  const at::Tensor sum = at::mm(rows.t(), scattered(rows, judged, coefficients));
  return (sum + sum.t()) / 2;  // equal but for rounding
}

Posterior::Posterior(at::Tensor mean, at::Tensor precision, PairLikelihood likelihood)
    : mean_(checked(mean, "mean", {mean.defined() ? mean.numel() : 0})),
      precision_(checked(precision, "precision", {mean_.numel(), mean_.numel()})),
      covariance_(inverse_of(precision_)),
      likelihood_(likelihood) {}

Posterior Posterior::prior(int64_t size, double prior_precision, PairLikelihood likelihood) {
  return Posterior(at::zeros({size}, at::kDouble), at::eye(size, at::kDouble) * prior_precision,
                   likelihood);
}

Posterior Posterior::fit(const at::Tensor& features, const std::vector<JudgedPair>& judged,
                         double prior_precision, PairLikelihood likelihood) {
  constexpr int kMostSteps = 100, kMostHalvings = 30;
  constexpr double kTolerance = 1e-9;
  const int64_t size = features.size(1);
  check_features(features, size);
  const at::Tensor rows = features.contiguous();
  double judgements = 1.0;
  for (const auto& one : judged) {
    check_pair(one.pair, rows.size(0));
    judgements += one.weight;
  }
  std::vector<double> slopes(judged.size());
  // Negative log posterior at w; its slopes in z on the way.
  const auto objective = [&](const at::Tensor& w) {
    const at::Tensor scores = at::mv(rows, w);
    double sum = 0.5 * prior_precision * w.square().sum().item<double>();
    for (size_t p = 0; p < judged.size(); ++p) {
      const double z = difference_of(scores.const_data_ptr<double>(), judged[p].pair);
      const auto term = kernels::math::preference_nll(z, judged[p].target, likelihood.params());
      sum += judged[p].weight * term.value;
      slopes[p] = judged[p].weight * term.derivative;
    }
    return sum;
  };
  at::Tensor mean = at::zeros({size}, at::kDouble);
  double value = objective(mean);
  for (int step = 0; step < kMostSteps; ++step) {
    at::Tensor gradient = mean * prior_precision;
    double* g = gradient.data_ptr<double>();
    const double* phi = rows.const_data_ptr<double>();
    for (size_t p = 0; p < judged.size(); ++p) {
      const auto [first, second] = judged[p].pair;
      for (int64_t k = 0; k < size; ++k) {
        const double b = second < 0 ? 0.0 : phi[second * size + k];
        g[k] += slopes[p] * (phi[first * size + k] - b);
      }
    }
    if (gradient.abs().max().item<double>() < kTolerance * judgements) break;
    const at::Tensor curvature = fisher_information(rows, judged, mean, likelihood) +
                                 at::eye(size, at::kDouble) * prior_precision;
    const at::Tensor direction = at::mv(inverse_of(curvature), gradient);
    double length = 1.0;
    int halvings = 0;
    for (; halvings < kMostHalvings; ++halvings, length /= 2) {
      const at::Tensor next = mean - length * direction;
      const double there = objective(next);
      if (there > value) continue;
      mean = next;
      value = there;
      break;
    }
    if (halvings == kMostHalvings) break;  // at the limit of double precision
  }
  return Posterior(mean,
                   fisher_information(rows, judged, mean, likelihood) +
                       at::eye(size, at::kDouble) * prior_precision,
                   likelihood);
}

std::vector<PairBelief> Posterior::beliefs(const at::Tensor& features,
                                           const std::vector<FeaturePair>& pairs) const {
  check_features(features, size());
  const at::Tensor rows = features.contiguous();
  const at::Tensor scores = at::mv(rows, mean_), spread = at::mm(rows, covariance_);
  const double* phi = rows.const_data_ptr<double>();
  const double* s = spread.const_data_ptr<double>();
  const int64_t d = size();
  std::vector<PairBelief> beliefs(pairs.size());
  for (size_t p = 0; p < pairs.size(); ++p) {
    const auto [first, second] = pairs[p];
    check_pair(pairs[p], rows.size(0));
    auto& belief = beliefs[p];
    belief.mean = difference_of(scores.const_data_ptr<double>(), pairs[p]);
    for (int64_t k = 0; k < d; ++k) {
      const double x = phi[first * d + k] - (second < 0 ? 0.0 : phi[second * d + k]);
      belief.variance += x * (s[first * d + k] - (second < 0 ? 0.0 : s[second * d + k]));
    }
    belief.variance = std::max(belief.variance, 0.0);
    belief.probability =
        likelihood_.probability(belief.mean / std::sqrt(1.0 + kPi * belief.variance / 8.0));
    belief.information = likelihood_.information(belief.mean);
  }
  return beliefs;
}

void Posterior::add(const at::Tensor& difference, double information) {
  checked(difference, "difference", {size()});
  const at::Tensor along = at::mv(covariance_, difference);
  const double variance = (along * difference).sum().item<double>();
  precision_ = precision_ + information * at::outer(difference, difference);
  covariance_ =
      covariance_ - at::outer(along, along) * (information / (1.0 + information * variance));
}

}  // namespace hone::reward
