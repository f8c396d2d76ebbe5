#include "engine/trainers/ppo_trainer.h"

#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>

#include "engine/packing/random_order.h"
#include "engine/rollout/collector.h"
#include "engine/rollout/minibatches.h"
#include "engine/runtime/signals.h"
#include "engine/trainers/kl_controller.h"
#include "engine/trainers/lanes.h"
#include "engine/trainers/ppo_advantages.h"
#include "engine/trainers/ppo_flight.h"
#include "engine/trainers/ppo_update.h"
#include "engine/trainers/ppo_validation.h"
#include "engine/trainers/step_figures.h"
#include "engine/trainers/training_checkpoint.h"
#include "engine/trainers/utilization.h"

namespace hone::engine {
namespace {

using Clock = std::chrono::steady_clock;

/// Seconds since the last call (or construction).
class Lap {
 public:
  double operator()() {
    const auto now = Clock::now();
    const double seconds = std::chrono::duration<double>(now - last_).count();
    last_ = now;
    return seconds;
  }

 private:
  Clock::time_point last_ = Clock::now();
};

/// Independent random streams of one seed.
enum Stream : uint64_t { kPrompts = 1, kSampling = 2, kShuffle = 3 };

class PpoTrainer {
 public:
  PpoTrainer(PpoProblem& problem, const PpoOptions& options, const TrainingContext& context)
      : problem_(problem),
        context_(context),
        options_(options),
        controller_(options.kl_controller, options.kl_coef, options.kl_target, options.kl_horizon),
        texts_(options.prompts_per_iteration * options.samples_per_prompt),
        micro_tokens_(options.micro_tokens > 0 ? options.micro_tokens
                                               : fitting_tokens(*problem.actor)),
        precision_({problem.actor, problem.reference, problem.critic, problem.reward_model},
                   options.precision),
        span_(context.span()),
        actor_ranks_(context.communicator.duplicate("actor")),
        critic_ranks_(context.communicator.duplicate("critic")),
        actor_optimizer_(problem.actor->parameters(), options.actor, steps(),
                         context.plan(*actor_ranks_)),
        lanes_(has_critic() && problem.actor->parameters().data().is_cpu()),
        checkpoints_(context.checkpointer) {
    if (has_critic()) {
      critic_optimizer_.emplace(problem.critic->parameters(), options.critic, steps(),
                                context.plan(*critic_ranks_));
    }
    if (context.frozen_in_parts && context.communicator.world() > 1) {
      for (CausalLM* model : {problem.reference, problem.reward_model}) {
        if (!model) continue;
        frozen_.push_back(std::make_unique<ParameterGather>(
            model->parameters(), context.plan(context.communicator), /*in_parts=*/true));
      }
    }
  }

  PpoResult run();

 private:
  bool has_critic() const { return options_.has_critic(); }
  std::vector<const ParameterArena*> networks() const {
    if (!has_critic()) return {&problem_.actor->parameters()};
    return {&problem_.actor->parameters(), &problem_.critic->parameters()};
  }
  int64_t steps() const {
    return options_.iterations * options_.epochs *
           std::min(options_.minibatches, texts_ / together());
  }
  /// Texts whose loss is one.
  int64_t together() const { return options_.is_pairwise() ? 2 : 1; }
  uint64_t seed(Stream stream) const { return mix_seed(problem_.seed, stream); }

  Rollout sample(int64_t iteration, int64_t round);
  std::vector<Minibatch> split(const Rollout& rollout, int64_t iteration, int64_t epoch) const;
  void score(Rollout& rollout, std::vector<Minibatch>& minibatches);
  int64_t packs_kept(const CausalLM& model, const Minibatch& first) const;
  PpoFlight take_off(int64_t iteration, const ScoringOptions& scoring);
  void update(PpoFlight& flight, int64_t iteration);
  TrainingState state(const PpoFlight* flight);
  std::optional<PpoFlight> resume();
  void step(const Rollout& rollout, const Minibatch& minibatch, UpdateMeans& means);
  template <class Accumulate>
  void for_each_shard(Optimizer& optimizer, const Minibatch& minibatch,
                      const Accumulate& accumulate) const;

  PpoProblem& problem_;
  const TrainingContext& context_;
  const PpoOptions& options_;
  KlController controller_;
  int64_t texts_, micro_tokens_;
  PrecisionScope precision_;
  ShardSpan span_;
  // Actor and critic are updated side by side, so each speaks for itself.
  std::unique_ptr<Communicator> actor_ranks_, critic_ranks_;
  Optimizer actor_optimizer_;
  std::optional<Optimizer> critic_optimizer_;
  std::vector<std::unique_ptr<ParameterGather>> frozen_;
  std::vector<Minibatch> scored_;  // of the first epoch, until it begins
  Lanes lanes_;
  TrainingCheckpoints checkpoints_;
  double memory_ = 0, seconds_checkpoint_ = 0;  // of the last step, of an iteration
  PpoResult result_;
};

/// Rounds after the first (0) go on to other prompts.
Rollout PpoTrainer::sample(int64_t iteration, int64_t round) {
  const int64_t count = options_.prompts_per_iteration;
  const auto drawn = draw_prompts(static_cast<int64_t>(problem_.prompts.size()),
                                  count * (round + 1), seed(kPrompts), iteration);
  std::vector<TokenIds> prompts;
  for (auto i = drawn.end() - count; i != drawn.end(); ++i) {
    prompts.push_back(problem_.prompts[static_cast<size_t>(*i)]);
  }
  RolloutOptions options;
  options.samples_per_prompt = options_.samples_per_prompt;
  options.max_new_tokens = options_.max_new_tokens;
  options.temperature = options_.temperature;
  options.eos_ids = problem_.eos_ids;
  uint64_t stream = mix_seed(seed(kSampling), static_cast<uint64_t>(iteration));
  if (round > 0) stream = mix_seed(stream, static_cast<uint64_t>(round));
  options.seed = static_cast<int64_t>(stream >> 1);
  options.final_states = has_critic() && options_.placement == "after_last";
  return sample_texts(*problem_.actor, prompts, options, context_.communicator, span_);
}

std::vector<Minibatch> PpoTrainer::split(const Rollout& rollout, int64_t iteration,
                                         int64_t epoch) const {
  const auto order = random_order(rollout.size() / together(), seed(kShuffle),
                                  static_cast<uint64_t>(iteration * options_.epochs + epoch));
  return make_minibatches(
      rollout, order,
      {.minibatches = options_.minibatches,
       .micro_tokens = micro_tokens_,
       .aggregation = options_.is_pairwise() ? "seq_mean_token_sum" : options_.aggregation,
       .max_new_tokens = options_.max_new_tokens,
       .together = together(),
       .shards = span_.shards,
       .first_shard = span_.begin,
       .end_shard = span_.end});
}

/// Packs of the first minibatch, from its first one on, whose forward passes scoring keeps for the
/// first step. Not where a device's memory is dear or parameters come and go.
int64_t PpoTrainer::packs_kept(const CausalLM& model, const Minibatch& first) const {
  constexpr double kMostBytes = 1 << 28;  // of a network
  if (!model.parameters().data().is_cpu() || model.parameters().keeper()) return 0;
  double bytes = 0;
  int64_t packs = 0;
  for (const Pack& pack : first) {
    bytes += static_cast<double>(pack.input.tokens.size(0)) * model.config().activation_bytes();
    if (bytes > kMostBytes) break;
    ++packs;
  }
  return packs;
}

/// Leaves forward passes of the first step in its packs.
void PpoTrainer::score(Rollout& rollout, std::vector<Minibatch>& minibatches) {
  const auto zeros = [&] { return at::zeros_like(rollout.behaviour_logprobs); };
  const bool recompute = options_.old_logprobs == "recompute";
  rollout.old_logprobs = recompute ? zeros() : rollout.behaviour_logprobs;
  rollout.ref_logprobs = zeros();
  rollout.values = zeros();
  if (recompute) rollout.entropy = zeros();
  at::Tensor no_entropy;
  std::vector<std::function<void()>> tasks;
  // One thread at a time goes through a network that may have to be gathered.
  std::array<std::vector<std::function<void()>>, 3> by_network;
  const auto add = [&](size_t network, const CausalLM& model, std::function<void()> task) {
    const auto* keeper = model.parameters().keeper();
    (keeper && keeper->in_parts() ? by_network[network] : tasks).push_back(std::move(task));
  };
  for (auto& minibatch : minibatches) {
    const bool first = &minibatch == &minibatches.front();
    const int64_t actor_kept = first ? packs_kept(*problem_.actor, minibatch) : 0;
    const int64_t critic_kept = first && has_critic() ? packs_kept(*problem_.critic, minibatch) : 0;
    for (auto& pack : minibatch) {
      const int64_t place = &pack - minibatch.data();
      if (recompute) {
        at::Tensor* const kept = place < actor_kept ? &pack.actor_hidden : nullptr;
        add(0, *problem_.actor, [&, kept] {
          score_policy(*problem_.actor, pack, options_.temperature, rollout.old_logprobs,
                       rollout.entropy, kept);
        });
      }
      add(1, *problem_.reference, [&] {
        score_policy(*problem_.reference, pack, options_.temperature, rollout.ref_logprobs,
                     no_entropy);
      });
      if (has_critic()) {
        at::Tensor* const kept = place < critic_kept ? &pack.critic_hidden : nullptr;
        add(2, *problem_.critic, [&, kept] {
          score_values(*problem_.critic, problem_.value_offset, pack, rollout.values, kept);
        });
      }
    }
  }
  const std::array<const CausalLM*, 3> networks = {problem_.actor, problem_.reference,
                                                   problem_.critic};
  for (size_t network = networks.size(); network-- > 0;) {
    if (!networks[network]) continue;
    tasks.insert(tasks.begin(), [&, network] {
      for (const auto& task : by_network[network]) task();
      networks[network]->meet();
    });
  }
  lanes_.run(tasks);
  for (const auto* scored :
       {&rollout.old_logprobs, &rollout.ref_logprobs, &rollout.values, &rollout.entropy}) {
    const bool whole = scored == &rollout.old_logprobs && !recompute;
    if (scored->defined() && !whole) {
      share_disjoint(context_.communicator, *scored, "log-probabilities and values");
    }
  }
}

/// accumulate(packs, before the last backward pass) for each of this rank's logical shards.
template <class Accumulate>
void PpoTrainer::for_each_shard(Optimizer& optimizer, const Minibatch& minibatch,
                                const Accumulate& accumulate) const {
  const std::function<void()> nothing, last = [&] { optimizer.expect_last_backward(); };
  for (int64_t shard = span_.begin; shard < span_.end; ++shard) {
    accumulate(packs_of_shard(minibatch, shard), shard + 1 == span_.end ? last : nothing);
    optimizer.end_shard();
  }
}

void PpoTrainer::step(const Rollout& rollout, const Minibatch& minibatch, UpdateMeans& means) {
  const PolicyObjective objective = {
      .temperature = options_.temperature,
      .loss = policy_loss_options(options_, controller_.coefficient()),
      .pair_beta = options_.is_pairwise() ? controller_.coefficient() : 0.0,
      .weighs_sampler = options_.sampler_weight != "none"};
  PolicyUpdate policy;
  double value = 0, actor_norm = 0, critic_norm = 0;
  std::vector<std::function<void()>> tasks;
  tasks.emplace_back([&] {
    std::vector<double> figures;
    for_each_shard(actor_optimizer_, minibatch, [&](const Minibatch& packs, const auto& last) {
      accumulate_policy_gradients(*problem_.actor, rollout, packs, objective, last)
          .append_to(figures);
    });
    checkpoints_.await_copy();
    append_rank_figures(figures, 0.0);
    actor_norm = actor_optimizer_.step(&figures);
    memory_ = take_rank_figures(figures, context_.communicator.world()).most_memory;
    policy = PolicyUpdate::combined(figures);
  });
  if (critic_optimizer_) {
    tasks.emplace_back([&] {
      std::vector<double> losses;
      for_each_shard(*critic_optimizer_, minibatch, [&](const Minibatch& packs, const auto& last) {
        losses.push_back(accumulate_value_gradients(*problem_.critic, problem_.value_offset,
                                                    rollout, packs, options_.value_clip, last));
      });
      checkpoints_.await_copy();
      critic_norm = critic_optimizer_->step(&losses);
      value = std::accumulate(losses.begin(), losses.end(), 0.0);
    });
  }
  lanes_.run(tasks);
  means.add(policy, value, actor_norm, critic_norm);
}

/// Rollout, scores and advantages of one iteration.
PpoFlight PpoTrainer::take_off(int64_t iteration, const ScoringOptions& scoring) {
  // Every token of a text reads all weights, and looks at the policy are rank 0's alone.
  actor_optimizer_.hold_whole();
  if (critic_optimizer_) problem_.critic->meet();
  if (problem_.before_iteration) problem_.before_iteration(iteration);
  PpoFlight flight;
  Lap lap;
  const auto sampled = [&](int64_t round) {
    if (round > 0) actor_optimizer_.hold_whole();
    auto rollout = sample(iteration, round);
    actor_optimizer_.hold_parts();
    flight.seconds_rollout += lap();
    score_texts(rollout, problem_.score, scoring, context_.communicator, span_);
    flight.seconds_scoring += lap();
    return rollout;
  };
  if (options_.sampling_rounds == 0) {
    flight.rollout = sampled(0);
  } else {
    auto groups = groups_that_differ(options_.prompts_per_iteration, options_.samples_per_prompt,
                                     options_.sampling_rounds, sampled);
    flight.rollout = std::move(groups.rollout);
    flight.sampling_rounds = static_cast<double>(groups.rounds);
    flight.flat_groups = static_cast<double>(groups.flat);
  }
  scored_ = split(flight.rollout, iteration, 0);
  score(flight.rollout, scored_);
  flight.kl_coef = controller_.coefficient();
  flight.summary = estimate_advantages(flight.rollout, options_, flight.kl_coef);
  flight.seconds_scoring += lap();
  flight.lr = actor_optimizer_.lr();
  return flight;
}

/// The optimizer steps that the flight has not had yet.
void PpoTrainer::update(PpoFlight& flight, int64_t iteration) {
  Lap lap;
  int64_t next = 0;
  for (int64_t epoch = 0; epoch < options_.epochs; ++epoch) {
    auto minibatches = std::exchange(scored_, {});
    if (minibatches.empty()) minibatches = split(flight.rollout, iteration, epoch);
    for (auto& minibatch : minibatches) {
      if (next++ < flight.means.steps) continue;
      flight.seconds_update += lap();
      checkpoints_.boundary({iteration, 1 + flight.means.steps}, [&] { return state(&flight); });
      seconds_checkpoint_ += lap();
      step(flight.rollout, minibatch, flight.means);
      minibatch.clear();  // and with it what scoring kept
    }
  }
  flight.seconds_update += lap();
}

TrainingState PpoTrainer::state(const PpoFlight* flight) {
  TrainingState state;
  add_training(state, "actor", problem_.actor->parameters(), actor_optimizer_);
  if (critic_optimizer_) {
    add_training(state, "critic", problem_.critic->parameters(), *critic_optimizer_);
  }
  state.scalars["kl_coef"] = controller_.coefficient();
  state.scalars["result"] = to_json(result_);
  if (flight) add_flight(state, *flight);
  return state;
}

/// Takes up a checkpoint, if there is one, and the iteration that it was in the midst of.
std::optional<PpoFlight> PpoTrainer::resume() {
  const auto saved = checkpoints_.resume(networks(), [&] {
    TokensHash hash;
    for (const auto& prompt : problem_.prompts) hash.add(prompt);
    return hash.hex();
  });
  if (!saved) return std::nullopt;
  restore_training(*saved, "actor", problem_.actor->parameters(), actor_optimizer_);
  if (critic_optimizer_) {
    restore_training(*saved, "critic", problem_.critic->parameters(), *critic_optimizer_);
  }
  controller_.set_coefficient(saved->scalars().at("kl_coef").get<double>());
  result_ = ppo_result_from_json(saved->scalars().at("result"));
  if (saved->position().part == 0) return std::nullopt;
  return saved_flight(*saved, problem_.actor->parameters().data().device());
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

PpoResult PpoTrainer::run() {
  auto& metrics = context_.metrics;
  ScoringOptions scoring;
  scoring.normalization = problem_.normalization;
  scoring.missing_eos = parse_missing_eos(options_.missing_eos, options_.eos_penalty);
  scoring.eos_penalty = options_.eos_penalty;
  scoring.eos_exists = !problem_.eos_ids.empty();
  scoring.overlong_margin = options_.overlong_tokens;
  scoring.overlong_limit = options_.max_new_tokens;
  scoring.overlong_penalty = options_.overlong_penalty;
  scoring.alone = problem_.score_alone;
  if (problem_.reward_model) scoring.done = [this] { problem_.reward_model->meet(); };
  auto& result = result_;
  auto resumed = resume();
  const double peak = measured_matrix_flops(problem_.actor->parameters().data().device()) *
                      static_cast<double>(context_.communicator.world());
  metrics.begin_stage("ppo", options_.iterations, "train");
  for (int64_t iteration = result.iterations; iteration < options_.iterations; ++iteration) {
    PpoFlight flight;
    if (resumed) {
      flight = *std::exchange(resumed, std::nullopt);
    } else {
      checkpoints_.boundary({iteration}, [&] { return state(nullptr); });
      checkpoints_.guard([&] { flight = take_off(iteration, scoring); });
    }
    update(flight, iteration);
    const auto& [rollout, summary, means, kl_coef, lr, sampling_rounds, flat_groups,
                 rollout_seconds, scoring_seconds, update_seconds] = flight;
    controller_.update(summary.kl, rollout.size());

    int64_t tokens = 0, read = 0, ended = 0;
    for (int64_t i = 0; i < rollout.size(); ++i) {
      tokens += rollout.response_tokens(i);
      read += static_cast<int64_t>(rollout.texts[static_cast<size_t>(i)].tokens.size());
    }
    const double length = static_cast<double>(read) / static_cast<double>(rollout.size());
    double flops = training_flops(*problem_.actor, length);
    if (has_critic()) flops += training_flops(*problem_.critic, length);
    flops *= static_cast<double>(options_.epochs * read);
    for (const auto one : rollout.ended) ended += one;
    const auto texts = static_cast<double>(rollout.size()), all = static_cast<double>(tokens);
    const double seconds = rollout_seconds + scoring_seconds + update_seconds;
    double entropy = means.first.entropy, mismatch = means.first.mismatch;
    if (rollout.entropy.defined()) {  // over the whole rollout, where it was recomputed
      entropy = rollout.entropy.sum(at::kDouble).item<double>() / all;
      mismatch = rollout.old_logprobs.sub(rollout.behaviour_logprobs)
                     .abs()
                     .sum(at::kDouble)
                     .item<double>() /
                 all;
    }
    result.iterations += 1;
    result.tokens += tokens;
    result.seconds_rollout += rollout_seconds;
    result.seconds_scoring += scoring_seconds;
    result.seconds_update += update_seconds;
    result.seconds += seconds;
    result.first_ratio_error = std::max(result.first_ratio_error, means.first.ratio_error);
    result.first_approx_kl = std::max(result.first_approx_kl, means.first.approx_kl);
    MetricValues values = {
        {"ppo/score", mean(rollout.normalized_scores)},
        {"ppo/reward", summary.reward},
        {"ppo/kl", summary.kl},
        {"ppo/kl_coef", kl_coef},
        {"ppo/entropy", entropy},
        {"ppo/clip_fraction", means.clip_fraction},
        {"ppo/approx_kl", means.approx_kl},
        {"ppo/ratio_max", means.ratio_max},
        {"ppo/first_ratio_error", means.first.ratio_error},
        {"ppo/first_approx_kl", means.first.approx_kl},
        {"ppo/rollout_mismatch", mismatch},
        {"ppo/policy_loss", means.policy_loss},
        {"ppo/value_loss", means.value_loss},
        {"ppo/explained_variance", summary.explained_variance},
        {"ppo/advantage_mean", summary.advantage_mean},
        {"ppo/advantage_std", summary.advantage_std},
        {"ppo/response_length", all / texts},
        {"ppo/text_length", length},
        {"ppo/eos_rate", static_cast<double>(ended) / texts},
        {"ppo/actor_grad_norm", means.actor_norm},
        {"ppo/critic_grad_norm", means.critic_norm},
        {"ppo/lr", lr},
        {"ppo/seconds_rollout", rollout_seconds},
        {"ppo/seconds_scoring", scoring_seconds},
        {"ppo/seconds_update", update_seconds},
        {"ppo/seconds_communication",
         actor_optimizer_.waited() + (critic_optimizer_ ? critic_optimizer_->waited() : 0)},
        {"ppo/seconds_checkpoint", std::exchange(seconds_checkpoint_, 0.0)},
        {"ppo/memory_mb", memory_ / 1e6},
        {"ppo/update_mfu", flops / update_seconds / peak},
        {"ppo/rank_tokens_per_second",
         all / seconds / static_cast<double>(context_.communicator.world())},
        {"ppo/tokens_per_second", all / seconds}};
    if (options_.kl_in_loss()) values.emplace_back("ppo/kl_loss", means.kl_loss);
    if (options_.is_pairwise()) values.emplace_back("ppo/margin", means.margin);
    if (options_.sampler_weight != "none") values.emplace_back("ppo/sampler_held", means.held);
    if (options_.sampling_rounds > 0) {
      values.emplace_back("ppo/sampling_rounds", sampling_rounds);
      values.emplace_back("ppo/flat_groups", flat_groups);
    }
    metrics.step(iteration + 1, values,
                 {"ppo/score", "ppo/kl", "ppo/entropy", "ppo/response_length"});
  }
  checkpoints_.boundary({result.iterations}, [&] { return state(nullptr); });
  checkpoints_.finish();
  actor_optimizer_.hold_whole();
  metrics.end_stage();
  return result;
}

}  // namespace

PpoResult train_ppo(PpoProblem& problem, const PpoOptions& options,
                    const TrainingContext& context) {
  validate(problem, options);
  return PpoTrainer(problem, options, context).run();
}

}  // namespace hone::engine
