#include "reward/evaluation.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "data/error.h"
#include "kernels/math/logistic.h"
#include "reward/margins.h"

namespace hone::reward {
namespace {

using kernels::math::logistic;
using kernels::math::softplus;

constexpr size_t kBins = 10;

double correctness(double margin) { return margin > 0.0 ? 1.0 : margin < 0.0 ? 0.0 : 0.5; }

}  // namespace

double pair_accuracy(const std::vector<float>& scores, const std::vector<Vote>& votes) {
  double right = 0.0;
  int64_t count = 0;
  for_each_margin(scores, votes, [&](double margin) {
    right += correctness(margin);
    ++count;
  });
  return count == 0 ? 0.0 : right / static_cast<double>(count);
}

double fit_temperature(const std::vector<float>& scores, const std::vector<Vote>& votes) {
  std::vector<double> margins;
  double scale = 0.0;
  for_each_margin(scores, votes, [&](double margin) {
    margins.push_back(margin);
    scale += std::abs(margin);
  });
  if (scale == 0.0 || !std::isfinite(scale)) return 1.0;
  scale /= static_cast<double>(margins.size());
  // sum log(1 + exp(-beta m)) is convex in beta = 1 / t, so its slope changes sign once at most:
  // bisection on log beta. Separable data has no finite optimum and scores worse than chance ask
  // for a negative one; the bounds (temperatures of 1e-3 to 1e3 mean margins) end both.
  const auto slope = [&](double beta) {
    double sum = 0.0;
    for (const double margin : margins) sum -= margin * logistic(-beta * margin);
    return sum;
  };
  double low = std::log(1e-3 / scale), high = std::log(1e3 / scale);
  for (int step = 0; step < 50; ++step) {
    const double middle = 0.5 * (low + high);
    (slope(std::exp(middle)) < 0.0 ? low : high) = middle;
  }
  return std::exp(-0.5 * (low + high));
}

Calibration calibration(const std::vector<float>& scores, const std::vector<Vote>& votes,
                        double temperature) {
  if (!(temperature > 0.0) || !std::isfinite(temperature)) {
    throw data::InputError("calibration", "temperature", "a finite number above 0",
                           std::to_string(temperature));
  }
  Calibration result;
  result.bins.resize(kBins);
  int64_t count = 0;
  for_each_margin(scores, votes, [&](double margin) {
    const double confidence = logistic(std::abs(margin) / temperature);
    const double right = logistic(margin / temperature);  // probability of what the person said
    auto& bin =
        result.bins[std::min(static_cast<size_t>((confidence - 0.5) * 2.0 * kBins), kBins - 1)];
    bin.confidence += confidence;
    bin.accuracy += correctness(margin);
    ++bin.count;
    result.brier += (1.0 - right) * (1.0 - right);
    result.log_loss += softplus(-margin / temperature);
    ++count;
  });
  if (count == 0) return result;
  for (auto& bin : result.bins) {
    if (bin.count == 0) continue;
    result.ece += std::abs(bin.confidence - bin.accuracy) / static_cast<double>(count);
    bin.confidence /= static_cast<double>(bin.count);
    bin.accuracy /= static_cast<double>(bin.count);
  }
  result.brier /= static_cast<double>(count);
  result.log_loss /= static_cast<double>(count);
  return result;
}

}  // namespace hone::reward
