// Routing by confidence, deployed a thousand times where the true risk is known (FEEDBACK.md 7c).

#include "reward/routing.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "experiments/experiment.h"
#include "kernels/math/logistic.h"

namespace hone::experiments {
namespace {

using kernels::math::logistic;
using reward::JudgedChoice;

constexpr int kDeployments = 1000, kPopulation = 400000, kPercents = 101;
constexpr double kFailure = 0.1;

/// Score differences are normal with this deviation; people agree with probability sigma(agreement
/// * |difference|) while the model says sigma(|difference|).
struct World {
  const char* name;
  double deviation, agreement, risk;
  int64_t judged;
  double share;             // of the best coverage that has to go straight
  bool informative = true;  // else people agree alike whatever the confidence
};

// A calibrated model; one that is too sure of itself; few judged choices; a good model; one whose
// confidence says nothing, where nothing may go straight.
constexpr World kWorlds[] = {
    {"calibrated, 500 judged", 2.0, 1.0, 0.1, 500, 0.35},
    {"calibrated, 4000 judged", 2.0, 1.0, 0.1, 4000, 0.8},
    {"overconfident, 500 judged", 4.0, 0.5, 0.1, 500, 0.3},
    {"good model, risk 5 %, 2000 judged", 8.0, 1.0, 0.05, 2000, 0.9},
    {"says nothing, 500 judged", 2.0, 1.0, 0.1, 500, 0.0, false},
};

class Population {
 public:
  Population(const World& world, uint64_t seed) : world_(world), random_(seed) {
    std::vector<double> straight(kPercents), wrong(kPercents);
    for (int i = 0; i < kPopulation; ++i) {
      const double difference = draw();
      const int percent = static_cast<int>(logistic(difference) * 100);
      straight[static_cast<size_t>(percent)] += 1;
      wrong[static_cast<size_t>(percent)] += 1 - right(difference);
    }
    for (size_t p = kPercents - 1; p-- > 0;) {
      straight[p] += straight[p + 1];
      wrong[p] += wrong[p + 1];
    }
    for (size_t p = 0; p < kPercents; ++p) {
      coverage_.push_back(straight[p] / kPopulation);
      risk_.push_back(straight[p] > 0 ? wrong[p] / straight[p] : 0);
    }
  }

  std::vector<JudgedChoice> judged() {
    std::vector<JudgedChoice> choices;
    for (int64_t i = 0; i < world_.judged; ++i) {
      const double difference = draw();
      choices.push_back({logistic(difference), uniform_(random_) >= right(difference)});
    }
    return choices;
  }

  double coverage(double threshold) const { return at(coverage_, threshold); }
  double risk(double threshold) const { return at(risk_, threshold); }
  /// The most that may go straight if the truth were known.
  double best_coverage() const {
    double best = 0;
    for (size_t p = 50; p < 100; ++p) {
      if (risk_[p] <= world_.risk) best = std::max(best, coverage_[p]);
    }
    return best;
  }

 private:
  static double at(const std::vector<double>& table, double threshold) {
    return threshold > 1 ? 0.0 : table[static_cast<size_t>(std::lround(threshold * 100))];
  }
  double draw() { return std::abs(normal_(random_)) * world_.deviation; }
  double right(double difference) const {
    constexpr double kAlike = 0.7;
    return world_.informative ? logistic(world_.agreement * difference) : kAlike;
  }

  const World& world_;
  std::mt19937_64 random_;
  std::normal_distribution<double> normal_;
  std::uniform_real_distribution<double> uniform_;
  std::vector<double> coverage_, risk_;  // by percent of the threshold
};

struct Figures {
  double straight = 0, risk = 0, violated = 0;
};

Figures deploy(Population& population, const World& world, int deployments,
               const std::function<double(const std::vector<JudgedChoice>&)>& threshold_of) {
  Figures figures;
  for (int d = 0; d < deployments; ++d) {
    const double threshold = threshold_of(population.judged());
    figures.straight += population.coverage(threshold) / deployments;
    figures.risk += population.risk(threshold) / deployments;
    figures.violated +=
        (population.risk(threshold) > world.risk) / static_cast<double>(deployments);
  }
  return figures;
}

}  // namespace

ExperimentResult routing(const ExperimentOptions& options) {
  const int deployments = std::max(1, static_cast<int>(kDeployments * options.scale));
  ExperimentResult result;
  result.name = "routing";
  result.columns = {"risk asked %", "true risk %", "violated %", "straight %", "best %"};
  uint64_t seed = options.seed * 1000;
  for (const World& world : kWorlds) {
    Population population(world, ++seed);
    const double best = population.best_coverage();
    const auto add = [&](const std::string& name, const Figures& figures,
                         const std::string& expected, bool passed) {
      result.rows.push_back({name,
                             {100 * world.risk, 100 * figures.risk, 100 * figures.violated,
                              100 * figures.straight, 100 * best},
                             expected,
                             passed});
    };
    const auto learned = deploy(population, world, deployments, [&](const auto& choices) {
      return reward::fit_routing(choices, {world.risk, kFailure}).threshold;
    });
    const bool kept = learned.violated <= kFailure;
    const bool used = learned.straight >= world.share * best;
    add(world.name, learned,
        "violated <= 10 %, straight >= " + std::to_string(std::lround(100 * world.share)) +
            " % of best",
        kept && used);
    const auto named =
        deploy(population, world, deployments, [&](const auto&) { return 1.0 - world.risk; });
    add("  by confidence alone", named, "", true);
  }
  result.reading =
      "A threshold that judged choices refute too high a risk for keeps its promise whatever the "
      "model believes of itself; confidence taken at its word does not.";
  return result;
}

}  // namespace hone::experiments
