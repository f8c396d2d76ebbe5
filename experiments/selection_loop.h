#pragma once

// People are asked in batches, the last layer is fitted again after each, and what it has learned
// is measured: the loop that `hone select`, `hone collect` and the reward stage make, over labels
// that are there already.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "reward/acquisition.h"

namespace hone::experiments {

struct SelectionVariant {
  std::string name;
  reward::AcquisitionRule rule;
  double random_share = 0;
};
/// Every rule by itself, and d_optimal with the random share that is Hone's default.
const std::vector<SelectionVariant>& selection_variants();
constexpr size_t kRandomVariant = 0;  // places in selection_variants()
constexpr size_t kVarianceVariant = 2, kDOptimalVariant = 4, kDefaultVariant = 5;

struct SelectionLoop {
  at::Tensor features;                             // [N, d] double
  std::vector<reward::FeaturePair> pool;           // pairs that may be asked, each once
  std::function<double(size_t)> answer;            // of the pool's pair: 1, 0.5 or 0
  std::function<double(const at::Tensor&)> judge;  // how good a head [d] is
  double prior_precision = 1;
  int64_t batch = 20, labels = 600;
};

/// What `judge` says after every batch.
std::vector<double> run_selection(const SelectionLoop& loop, const SelectionVariant& variant,
                                  uint64_t seed);

using Curves = std::vector<std::vector<double>>;  // of one variant, one a seed

struct MeanAndError {
  double mean = 0, error = 0;
};
/// Of one number a seed.
MeanAndError mean_and_error(const std::vector<double>& values);

/// How many labels a variant needs until its mean curve is where that of `random` ends, and what
/// share of the labels of `random` that saves; between batches the curve is a line. `labels` plus a
/// batch: never.
struct LabelsSaved {
  double labels = 0;
  MeanAndError share;  // its error by leaving out one seed after the other
};
LabelsSaved labels_saved(const Curves& curves, const Curves& random, int64_t batch);

}  // namespace hone::experiments
