#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "experiments/experiment.h"
#include "experiments/selection_loop.h"
#include "kernels/math/logistic.h"

namespace hone::experiments {
namespace {

constexpr int64_t kSize = 40, kPool = 20000, kEarly = 120, kSeeds = 6;
constexpr double kPi = 3.14159265358979323846;

struct Setting {
  const char* name;
  double alike;  // share of pairs whose two answers are nearly the same
  double beta;   // of the people's Bradley-Terry choices
};
// Order of the table in ALGORITHMS.md E8.
constexpr Setting kSettings[] = {
    {"70 % alike", 0.7, 3.0}, {"none alike", 0.0, 3.0}, {"70 % alike, noisy", 0.7, 1.0}};
constexpr double kAlike = 0.1;  // of the usual distance between two answers

/// Answers with features N(0, I); people choose by a hidden direction; a head is as good as the
/// share of fresh pairs that it orders as that direction does, which is 1 - angle / pi.
SelectionLoop make_loop(const Setting& setting, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  const at::Tensor gold = at::empty({kSize}, at::kDouble);
  for (int64_t k = 0; k < kSize; ++k) gold.data_ptr<double>()[k] = normal(random);
  gold.div_(gold.norm());
  SelectionLoop loop;
  loop.prior_precision =
      kSize + 1;  // of a reward model's head (engine/trainers/reward_posterior.h)
  loop.features = at::empty({kPool, kSize}, at::kDouble);
  for (int64_t p = 0; p < kPool; ++p) {
    const double distance = std::sqrt(2.0) * (uniform(random) < setting.alike ? kAlike : 1.0);
    for (int64_t k = 0; k < kSize; ++k) {
      loop.features.data_ptr<double>()[p * kSize + k] = distance * normal(random);
    }
    loop.pool.push_back({p, -1});
  }
  const at::Tensor z = at::mv(loop.features, gold) * setting.beta;
  std::vector<double> answers;
  for (int64_t p = 0; p < kPool; ++p) {
    const double chance = kernels::math::logistic(z.const_data_ptr<double>()[p]);
    answers.push_back(uniform(random) < chance ? 1.0 : 0.0);
  }
  loop.answer = [answers](size_t pair) { return answers[pair]; };
  loop.judge = [gold](const at::Tensor& head) {
    const double cosine = ((head * gold).sum() / head.norm()).item<double>();
    return 1 - std::acos(std::clamp(cosine, -1.0, 1.0)) / kPi;
  };
  return loop;
}

}  // namespace

ExperimentResult active_selection(const ExperimentOptions& options) {
  const auto seeds = std::max<int64_t>(2, std::llround(kSeeds * options.scale));
  const auto& variants = selection_variants();
  ExperimentResult result;
  result.name = "active-selection";
  result.columns = {"right@120", "right@600", "labels", "saved %", "s.e. %"};
  for (const auto& setting : kSettings) {
    std::vector<Curves> curves(variants.size());
    int64_t batch = 0;
    for (int64_t seed = 0; seed < seeds; ++seed) {
      const auto at = options.seed * 1000 + static_cast<uint64_t>(seed);
      const auto loop = make_loop(setting, at);
      batch = loop.batch;
      for (size_t v = 0; v < variants.size(); ++v) {
        curves[v].push_back(run_selection(loop, variants[v], at));
      }
    }
    for (size_t v = 0; v < variants.size(); ++v) {
      const auto saved = labels_saved(curves[v], curves[kRandomVariant], batch);
      const double share = 100 * saved.share.mean, error = 100 * saved.share.error;
      std::vector<double> early, late;
      for (const auto& curve : curves[v]) {
        early.push_back(curve[static_cast<size_t>(kEarly / batch - 1)]);
        late.push_back(curve.back());
      }
      ExperimentRow row;
      row.name = std::string(setting.name) + ": " + variants[v].name;
      row.figures = {mean_and_error(early).mean, mean_and_error(late).mean, saved.labels, share,
                     error};
      if (v == kVarianceVariant || v == kDOptimalVariant || v == kDefaultVariant) {
        row.expected = "saves 30 % or more";
        row.passed = share >= 30;
      }
      result.rows.push_back(std::move(row));
    }
  }
  result.reading =
      "Labels until as many fresh pairs are ordered right as after 600 at random (620: never). "
      "What "
      "an answer teaches counts, not how open it is: where many pairs are of two answers nearly "
      "alike, entropy asks about those for ever.";
  return result;
}

}  // namespace hone::experiments
