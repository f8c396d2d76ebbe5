// What choosing would have saved on judgements that people have given: those of a run's store,
// shown to the loop one batch at a time.

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <random>
#include <unordered_map>

#include "data/atomic_file.h"
#include "data/error.h"
#include "engine/run/workspace.h"
#include "engine/trainers/reward_posterior.h"
#include "experiments/experiment.h"
#include "experiments/selection_loop.h"
#include "reward/evaluation.h"

namespace hone::experiments {
namespace {

using engine::Workspace;

constexpr int64_t kSeeds = 6, kLabels = 1000, kBatch = 50, kEarly = 200;
constexpr size_t kPool = 10000, kTest = 20000;  // pairs

/// One person's answer to a pair of texts, by their places among the features.
struct Answer {
  int64_t first, second;
  double target;
};

/// Answers about test texts, which the reward model has never seen, nor the people who gave them;
/// a group of texts is all in one half or all in the other.
class Judgements {
 public:
  explicit Judgements(Workspace& workspace) : workspace_(workspace) {}

  std::vector<Answer> half(size_t which) {
    const auto& records = workspace_.records();
    std::map<std::string, size_t> halves;  // groups in turn, by name
    for (const auto& item : records.items) {
      if (item.split == data::Split::kTest) halves[item.group] = 0;
    }
    size_t turn = 0;
    for (auto& [group, half] : halves) half = turn++ % 2;
    std::vector<Answer> answers;
    for (const auto& comparison : records.comparisons) {
      if (comparison.outcome != data::Outcome::kOrdered || comparison.items.size() != 2) continue;
      const auto inside = [&](int64_t item) {
        const auto group = halves.find(records.items[static_cast<size_t>(item)].group);
        return group != halves.end() && group->second == which;
      };
      if (!inside(comparison.items[0]) || !inside(comparison.items[1])) continue;
      const int order = static_cast<int>(comparison.ranks[1]) - comparison.ranks[0];
      answers.push_back({place(comparison.items[0]), place(comparison.items[1]),
                         order > 0   ? 1.0
                         : order < 0 ? 0.0
                                     : 0.5});
    }
    return answers;
  }

  /// What the head of the run's reward model reads of each text.
  at::Tensor features() {
    const auto model = workspace_.load(workspace_.run().reward(), engine::HeadKind::kScalar);
    std::vector<engine::TokenIds> texts;
    for (const int64_t item : items_) {
      texts.push_back(workspace_.item_tokens()[static_cast<size_t>(item)]);
    }
    return engine::sequence_features(*model, texts);
  }

 private:
  int64_t place(int64_t item) {
    const auto [at, added] = places_.emplace(item, static_cast<int64_t>(items_.size()));
    if (added) items_.push_back(item);
    return at->second;
  }

  Workspace& workspace_;
  std::unordered_map<int64_t, int64_t> places_;
  std::vector<int64_t> items_;
};

/// A pool of distinct pairs, each with the answer of one of the people who compared it.
SelectionLoop make_loop(const at::Tensor& features, std::vector<Answer> answers,
                        const std::vector<reward::Vote>& test, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::shuffle(answers.begin(), answers.end(), random);
  std::map<std::pair<int64_t, int64_t>, bool> known;
  SelectionLoop loop;
  std::vector<double> targets;
  for (const auto& answer : answers) {
    if (loop.pool.size() == kPool) break;
    if (!known.emplace(std::minmax(answer.first, answer.second), true).second) continue;
    loop.pool.push_back({answer.first, answer.second});
    targets.push_back(answer.target);
  }
  loop.features = features;
  loop.answer = [targets](size_t pair) { return targets[pair]; };
  loop.judge = [features, test](const at::Tensor& head) {
    const at::Tensor scores = at::mv(features, head).to(at::kFloat).contiguous();
    const float* values = scores.const_data_ptr<float>();
    return reward::pair_accuracy({values, values + scores.numel()}, test);
  };
  // The prior of a reward model's head (engine/trainers/reward_posterior.h).
  loop.prior_precision = static_cast<double>(features.size(1) + 1);
  loop.batch = kBatch;
  loop.labels = kLabels;
  return loop;
}

}  // namespace

ExperimentResult selection_replay(const ExperimentOptions& options) {
  const auto& run = options.run;
  if (run.empty() || !engine::read_stage_record({run}, "reward")) {
    throw data::InputError("hone experiment selection-replay", "--run",
                           "a run's folder with its reward stage done", "'" + run.string() + "'");
  }
  engine::Metrics silent("", true);
  const auto recipe_dir = data::read_file(run / "recipe_dir");
  Workspace workspace(engine::read_recipe(run / "config.toml", {}),
                      recipe_dir.substr(0, recipe_dir.find('\n')), {run}, silent);
  Judgements judgements(workspace);
  const auto answers = judgements.half(0);
  std::vector<reward::Vote> test;
  for (const auto& answer : judgements.half(1)) {
    if (test.size() == kTest) break;
    test.push_back({answer.first, answer.second, static_cast<float>(answer.target), false});
  }
  if (answers.empty() || test.empty()) {
    throw data::InputError(run.string(), "feedback", "comparisons of test texts of several groups",
                           "none");
  }
  const at::Tensor features = judgements.features();

  const auto& variants = selection_variants();
  std::vector<Curves> curves(variants.size());
  const auto seeds = std::max<int64_t>(2, std::llround(kSeeds * options.scale));
  for (int64_t seed = 0; seed < seeds; ++seed) {
    const auto at = options.seed * 1000 + static_cast<uint64_t>(seed);
    const auto loop = make_loop(features, answers, test, at);
    for (size_t v = 0; v < variants.size(); ++v) {
      curves[v].push_back(run_selection(loop, variants[v], at));
    }
  }
  ExperimentResult result;
  result.name = "selection-replay";
  result.columns = {"right@200",  "right@1000", "labels",   "saved %",
                    "s.e. saved", "gain %",     "s.e. gain"};
  const auto& random = curves[kRandomVariant];
  for (size_t v = 0; v < variants.size(); ++v) {
    std::vector<double> early, late, gains;
    for (size_t seed = 0; seed < curves[v].size(); ++seed) {
      const auto& curve = curves[v][seed];
      early.push_back(curve[std::min<size_t>(curve.size(), kEarly / kBatch) - 1]);
      late.push_back(curve.back());
      double gain = 0;
      for (size_t b = 0; b < curve.size(); ++b) gain += curve[b] - random[seed][b];
      gains.push_back(100 * gain / static_cast<double>(curve.size()));
    }
    const auto saved = labels_saved(curves[v], random, kBatch);
    const auto gain = mean_and_error(gains);
    ExperimentRow row;
    row.name = variants[v].name;
    row.figures = {mean_and_error(early).mean,
                   mean_and_error(late).mean,
                   saved.labels,
                   100 * saved.share.mean,
                   100 * saved.share.error,
                   gain.mean,
                   gain.error};
    if (v == kDefaultVariant) {
      row.expected = "not worse than random by 2 s.e.";
      row.passed = gain.mean + 2 * gain.error >= 0;
    }
    result.rows.push_back(std::move(row));
  }
  result.reading = "People's judgements of '" + workspace.recipe().name +
                   "': " + std::to_string(answers.size()) + " to show, " +
                   std::to_string(test.size()) +
                   " held out, all about texts new to the reward model whose hidden states a "
                   "head learns to read from nothing. gain: "
                   "points of accuracy above random, over the whole curve. labels: until as right "
                   "as random with 1000 (1050: never).";
  return result;
}

}  // namespace hone::experiments
