#include "experiments/selection_loop.h"

#include <algorithm>
#include <cmath>

namespace hone::experiments {
namespace {

/// Without the seed `left_out`, when it is one.
std::vector<double> mean_curve(const Curves& curves, size_t left_out) {
  std::vector<double> mean(curves.front().size(), 0.0);
  double count = 0;
  for (size_t seed = 0; seed < curves.size(); ++seed) {
    if (seed == left_out) continue;
    ++count;
    for (size_t b = 0; b < mean.size(); ++b) mean[b] += curves[seed][b];
  }
  for (double& value : mean) value /= count;
  return mean;
}

double labels_to_reach(const std::vector<double>& curve, double target, int64_t batch) {
  for (size_t b = 0; b < curve.size(); ++b) {
    if (curve[b] < target) continue;
    const double before = b == 0 ? 0.5 : curve[b - 1];  // nothing learned: every other pair right
    const double part = curve[b] > before ? (target - before) / (curve[b] - before) : 1.0;
    return static_cast<double>(batch) * (static_cast<double>(b) + std::clamp(part, 0.0, 1.0));
  }
  return static_cast<double>(batch) * static_cast<double>(curve.size() + 1);
}

}  // namespace

using reward::AcquisitionRule;

const std::vector<SelectionVariant>& selection_variants() {
  static const std::vector<SelectionVariant> variants = {
      {"random", AcquisitionRule::kRandom, 1.0},
      {"entropy", AcquisitionRule::kEntropy, 0.0},
      {"variance", AcquisitionRule::kVariance, 0.0},
      {"bald", AcquisitionRule::kBald, 0.0},
      {"d_optimal", AcquisitionRule::kDOptimal, 0.0},
      {"d_optimal, 20 % random", AcquisitionRule::kDOptimal, 0.2}};
  return variants;
}

std::vector<double> run_selection(const SelectionLoop& loop, const SelectionVariant& variant,
                                  uint64_t seed) {
  std::vector<size_t> left(loop.pool.size());
  for (size_t p = 0; p < left.size(); ++p) left[p] = p;
  std::vector<reward::JudgedPair> judged;
  auto posterior = reward::Posterior::prior(loop.features.size(1), loop.prior_precision);
  std::vector<double> curve;
  while (static_cast<int64_t>(judged.size()) < loop.labels && !left.empty()) {
    std::vector<reward::FeaturePair> candidates;
    for (const size_t p : left) candidates.push_back(loop.pool[p]);
    reward::SelectionOptions options;
    options.rule = variant.rule;
    options.count = loop.batch;
    options.random_share = variant.random_share;
    options.seed = seed * 1000003 + judged.size();
    std::vector<bool> asked(left.size(), false);
    for (const auto& one : reward::select_pairs(posterior, loop.features, candidates, options)) {
      asked[one.pair] = true;
      judged.push_back({candidates[one.pair], loop.answer(left[one.pair]), 1.0});
    }
    size_t at = 0;
    std::erase_if(left, [&](size_t) { return asked[at++]; });
    posterior = reward::Posterior::fit(loop.features, judged, loop.prior_precision);
    curve.push_back(loop.judge(posterior.mean()));
  }
  return curve;
}

MeanAndError mean_and_error(const std::vector<double>& values) {
  MeanAndError result;
  const auto n = static_cast<double>(values.size());
  for (const double value : values) result.mean += value / n;
  for (const double value : values) {
    result.error += (value - result.mean) * (value - result.mean);
  }
  result.error = n > 1 ? std::sqrt(result.error / (n - 1) / n) : 0;
  return result;
}

LabelsSaved labels_saved(const Curves& curves, const Curves& random, int64_t batch) {
  LabelsSaved saved;
  const auto share_without = [&](size_t left_out) {
    const auto baseline = mean_curve(random, left_out);
    saved.labels = labels_to_reach(mean_curve(curves, left_out), baseline.back(), batch);
    return 1 - saved.labels / labels_to_reach(baseline, baseline.back(), batch);
  };
  std::vector<double> shares;
  for (size_t seed = 0; seed < curves.size(); ++seed) shares.push_back(share_without(seed));
  // The jackknife: what n means of n - 1 seeds differ by is (n - 1) times too small.
  saved.share.error = mean_and_error(shares).error * static_cast<double>(curves.size() - 1);
  saved.share.mean = share_without(curves.size());
  return saved;
}

}  // namespace hone::experiments
