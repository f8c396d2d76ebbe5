#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "experiments/experiment.h"
#include "experiments/markov_policy.h"
#include "kernels/math/logistic.h"
#include "kernels/ops.h"

namespace hone::experiments {
namespace {

constexpr int64_t kVocabulary = 12, kLength = 10;
constexpr double kBeta = 0.3, kLr = 0.05;
constexpr int64_t kSteps = 1500, kBatch = 4096;  // optimizer steps; pairs of one
constexpr int64_t kChunk = 1 << 16;              // texts sampled at once
constexpr double kFlips = 0.2;

/// Pairs of texts of the reference, the one that a Bradley-Terry judge of their rewards chose
/// first.
struct ComparedTexts {
  at::Tensor chosen, rejected;          // [P, L] int64: state * V + action of every token
  at::Tensor ref_chosen, ref_rejected;  // [P]
};

ComparedTexts compare(const MarkovTask& task, int64_t pairs, double flips, uint64_t seed) {
  const MarkovPolicy reference(task, kLr, 1);
  std::vector<at::Tensor> texts, rewards;
  for (int64_t done = 0; done < 2 * pairs; done += kChunk) {
    const auto rollout =
        reference.sample(std::min(kChunk, 2 * pairs - done),
                         static_cast<int64_t>(seed) * 1000003 + 700000 + done, 1.0);
    texts.push_back((rollout.states * task.vocabulary() + rollout.actions).view({-1, kLength}));
    rewards.push_back(rollout.rewards.view({-1, kLength}).sum(1));
  }
  const auto text = at::cat(texts);
  const auto reward = at::cat(rewards).to(at::kDouble);
  std::mt19937_64 random(seed + 29);
  std::uniform_real_distribution<double> uniform;
  std::vector<int64_t> better, worse;
  const auto* score = reward.const_data_ptr<double>();
  for (int64_t p = 0; p < pairs; ++p) {
    const double first_wins = kernels::math::logistic(score[2 * p] - score[2 * p + 1]);
    const bool first = (uniform(random) < first_wins) != (uniform(random) < flips);
    better.push_back(2 * p + (first ? 0 : 1));
    worse.push_back(2 * p + (first ? 1 : 0));
  }
  const auto reference_of = [&](const at::Tensor& tokens) {
    return task.reference()
        .view({-1})
        .index_select(0, tokens.view({-1}))
        .view({-1, kLength})
        .sum(1);
  };
  ComparedTexts out;
  out.chosen = text.index_select(0, at::tensor(better, at::kLong));
  out.rejected = text.index_select(0, at::tensor(worse, at::kLong));
  out.ref_chosen = reference_of(out.chosen);
  out.ref_rejected = reference_of(out.rejected);
  return out;
}

ExactFigures run_direct(const MarkovTask& task, const ComparedTexts& data,
                        const kernels::DirectLossOptions& options,
                        const ExperimentOptions& experiment) {
  const auto steps = std::max<int64_t>(1, std::llround(kSteps * experiment.scale));
  const int64_t pairs = data.chosen.size(0), batch = std::min(kBatch, pairs);
  MarkovPolicy policy(task, kLr, steps);
  std::mt19937_64 random(experiment.seed + 31);
  for (int64_t step = 0; step < steps; ++step) {
    // Pairs are independent draws: any stretch of them is a random batch.
    const auto begin = static_cast<int64_t>(random() % static_cast<uint64_t>(pairs - batch + 1));
    const auto part = [&](const at::Tensor& x) { return x.narrow(0, begin, batch); };
    const auto logp = [&](const at::Tensor& tokens) {
      const auto flat = part(tokens).reshape({-1});
      return policy
          .looked_up_logprobs(flat.div(task.vocabulary(), "floor"), flat % task.vocabulary())
          .view({-1, kLength})
          .sum(1)
          .to(at::kDouble);
    };
    kernels::DirectPairs both;
    both.logp_chosen = logp(data.chosen);
    both.logp_rejected = logp(data.rejected);
    both.ref_chosen = part(data.ref_chosen);
    both.ref_rejected = part(data.ref_rejected);
    const auto weights = at::full({batch}, 1.0 / static_cast<double>(batch), at::kDouble);
    policy.step(kernels::direct_loss(both, weights, options).loss);
  }
  return task.evaluate(policy.log_table());
}

/// The most reward that any policy has at this KL: that of the optimum whose KL it is.
double frontier_reward(double kl, uint64_t seed) {
  double low = 0.02, high = 20.0;  // of beta, whose optimum's KL falls as it grows
  ExactFigures figures;
  for (int i = 0; i < 60; ++i) {
    const double beta = std::sqrt(low * high);
    const MarkovTask task(kVocabulary, kLength, beta, seed);
    figures = task.evaluate(task.optimum());
    (figures.kl > kl ? low : high) = beta;
  }
  return figures.reward;
}

}  // namespace

ExperimentResult frontier(const ExperimentOptions& options) {
  const MarkovTask task(kVocabulary, kLength, kBeta, options.seed);
  const double best = task.optimal_objective();
  ExperimentResult result;
  result.name = "frontier";
  result.columns = {"KL", "reward", "frontier", "gap %"};
  std::vector<double> gaps;
  const auto add = [&](const std::string& name, const ExactFigures& figures,
                       const std::string& expected, bool passed) {
    const double reach = frontier_reward(figures.kl, options.seed);
    const double gap = 100.0 * (best - figures.objective(kBeta)) / best;
    gaps.push_back(gap);
    const bool below = figures.reward <= reach + 1e-6;
    result.rows.push_back({name,
                           {figures.kl, figures.reward, reach, gap},
                           expected.empty() ? "not above the frontier" : expected,
                           below && passed});
  };
  const auto line = [&](const std::string& expected, bool passed) {
    result.rows.back().expected = expected;
    result.rows.back().passed = result.rows.back().passed && passed;
  };
  add("exact optimum", task.evaluate(task.optimum()), "gap 0", true);
  const auto dpo = [](const char* kind, double smoothing) {
    kernels::DirectLossOptions loss;
    loss.kind = kind;
    loss.beta = kBeta;
    loss.label_smoothing = smoothing;
    return loss;
  };
  for (const int64_t pairs : {10000, 100000, 400000}) {
    const auto data = compare(task, pairs, 0.0, options.seed);
    add("DPO, " + std::to_string(pairs / 1000) + "k pairs",
        run_direct(task, data, dpo("dpo", 0.0), options), "", true);
    if (pairs > 10000) line("gap falls with data", gaps.back() < gaps[gaps.size() - 2]);
    if (pairs == 400000) line("gap < 3 %, less than with 100k", gaps.back() < 3.0);
  }
  const auto flipped = compare(task, 100000, kFlips, options.seed);
  const std::string noise = ", 100k pairs, 20 % flipped";
  add("DPO" + noise, run_direct(task, flipped, dpo("dpo", 0.0), options), "", true);
  const double plain = gaps.back();
  add("cDPO" + noise, run_direct(task, flipped, dpo("dpo", kFlips), options), "", true);
  line("worse than DPO", gaps.back() > plain);
  add("robust DPO" + noise, run_direct(task, flipped, dpo("robust_dpo", kFlips), options), "",
      true);
  line("better than DPO", gaps.back() < plain);
  result.reading =
      "DPO on the reference's own samples nears the optimum as comparisons grow; with few, KL is "
      "spent for nothing. No policy is above the frontier, or a KL was measured wrongly.";
  return result;
}

}  // namespace hone::experiments
