#include "engine/trainers/direct_trainer.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <span>
#include <string>
#include <utility>

#include "data/error.h"
#include "engine/distributed/shard_tree.h"
#include "engine/packing/random_order.h"
#include "engine/trainers/step_figures.h"
#include "engine/trainers/training_checkpoint.h"
#include "engine/trainers/utilization.h"

namespace hone::engine {
namespace {

using Clock = std::chrono::steady_clock;
using Pairs = std::vector<reward::DirectPair>;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void validate(const DirectProblem& problem, const DirectOptions& options) {
  check_direct_options(options, "direct", "");
  if (problem.pairs.empty()) {
    throw data::InputError("direct", "comparisons",
                           "at least one with a winner, of two answers to one prompt", "none");
  }
  const int64_t most = problem.policy->config().max_positions;
  for (size_t i = 0; i < problem.texts.size(); ++i) {
    const auto read = static_cast<int64_t>(problem.texts[i].tokens.size()) - 1;
    if (read > most) {
      throw data::InputError("direct", "text " + std::to_string(i),
                             "at most " + std::to_string(most) + " tokens", std::to_string(read));
    }
  }
}

/// Each prompt with the answer of the next text that has another prompt (KTO's samples of the KL);
/// texts of one prompt alone keep their own.
std::vector<TrainingText> mismatched(const std::vector<TrainingText>& texts, int64_t most_tokens) {
  const auto prompt_of = [&](size_t i) {
    const auto& tokens = texts[i].tokens;
    return std::span<const int32_t>(tokens.data(), static_cast<size_t>(texts[i].prompt_tokens));
  };
  std::vector<TrainingText> result;
  for (size_t i = 0; i < texts.size(); ++i) {
    size_t other = (i + 1) % texts.size();
    while (other != i && std::ranges::equal(prompt_of(other), prompt_of(i))) {
      other = (other + 1) % texts.size();
    }
    const auto prompt = prompt_of(i);
    TrainingText text{TokenIds(prompt.begin(), prompt.end()), texts[i].prompt_tokens};
    text.tokens.insert(text.tokens.end(), texts[other].tokens.begin() + texts[other].prompt_tokens,
                       texts[other].tokens.end());
    if (static_cast<int64_t>(text.tokens.size()) > most_tokens + 1) {
      text.tokens.resize(static_cast<size_t>(most_tokens + 1));
    }
    result.push_back(std::move(text));
  }
  return result;
}

class DirectTrainer {
 public:
  DirectTrainer(DirectProblem& problem, const DirectOptions& options,
                const TrainingContext& context)
      : problem_(problem),
        options_(options),
        context_(context),
        policy_(*problem.policy),
        precision_({problem.policy}, options.precision),
        span_(context.span()),
        batches_(std::max<int64_t>(
            1, (pairs() + options.pairs_per_batch - 1) / options.pairs_per_batch)),
        steps_(std::max<int64_t>(1, std::llround(options.epochs * static_cast<double>(batches_)))),
        optimizer_(policy_.parameters(), options.optimizer, steps_,
                   context.plan(context.communicator)),
        checkpoints_(context.checkpointer) {}

  DirectResult run();

 private:
  int64_t pairs() const { return static_cast<int64_t>(problem_.pairs.size()); }
  double world() const { return static_cast<double>(context_.communicator.world()); }
  void measure_reference();
  Pairs batch(int64_t step) const;
  std::vector<Pairs> shards_of(const Pairs& pairs) const;
  double mean_kl(const std::vector<Pairs>& shards);
  void look();
  void step(const Pairs& batch, double peak);
  TrainingState state();
  void resume();
  std::string data_hash() const;

  DirectProblem& problem_;
  const DirectOptions& options_;
  const TrainingContext& context_;
  CausalLM& policy_;
  PrecisionScope precision_;
  ShardSpan span_;
  int64_t batches_, steps_;  // of an epoch; of all
  Optimizer optimizer_;
  TrainingCheckpoints checkpoints_;
  ScoredTexts texts_, mismatched_;  // mismatched_: kto
  Pairs sample_;                    // training pairs that are looked at before and after
  StepTimes times_;
  DirectResult result_;
};

void DirectTrainer::measure_reference() {
  const auto score = [&](ScoredTexts& texts) {
    texts.reference =
        options_.has_reference()
            ? answer_logprobs(policy_, texts.texts, options_.temperature, context_.communicator)
            : std::vector<double>(texts.texts.size(), 0.0);
  };
  texts_.texts = std::move(problem_.texts);
  score(texts_);
  if (options_.loss == "kto") {
    mismatched_.texts = mismatched(texts_.texts, policy_.config().max_positions);
    score(mismatched_);
  }
}

/// The pairs of an optimizer step: nearly equal parts of a permutation for each epoch.
Pairs DirectTrainer::batch(int64_t step) const {
  const int64_t epoch = step / batches_, part = step % batches_;
  const auto order = random_order(pairs(), problem_.seed, static_cast<uint64_t>(epoch));
  Pairs chosen;
  for (int64_t i = pairs() * part / batches_; i < pairs() * (part + 1) / batches_; ++i) {
    chosen.push_back(problem_.pairs[static_cast<size_t>(order[static_cast<size_t>(i)])]);
  }
  return chosen;
}

/// This rank's logical shards of a step, of nearly equal tokens.
std::vector<Pairs> DirectTrainer::shards_of(const Pairs& pairs) const {
  std::vector<int64_t> order(pairs.size()), lengths;
  std::iota(order.begin(), order.end(), int64_t{0});
  const auto length = [&](int64_t text) {
    return static_cast<int64_t>(texts_.texts[static_cast<size_t>(text)].tokens.size());
  };
  for (const auto& pair : pairs) lengths.push_back(length(pair.first) + length(pair.second));
  const auto parts = balanced_parts(order, lengths, span_.shards);
  std::vector<Pairs> shards(static_cast<size_t>(span_.count()));
  for (int64_t s = span_.begin; s < std::min(span_.end, static_cast<int64_t>(parts.size())); ++s) {
    for (const int64_t p : parts[static_cast<size_t>(s)]) {
      shards[static_cast<size_t>(s - span_.begin)].push_back(pairs[static_cast<size_t>(p)]);
    }
  }
  return shards;
}

/// KTO: mean of log pi / ref of the step's prompts with other prompts' answers.
double DirectTrainer::mean_kl(const std::vector<Pairs>& shards) {
  std::vector<double> mine;
  for (const auto& shard : shards) {
    ScoredTexts other;
    for (const auto& pair : shard) {
      for (const int64_t text : {pair.first, pair.second}) {
        other.texts.push_back(mismatched_.texts[static_cast<size_t>(text)]);
        other.reference.push_back(mismatched_.reference[static_cast<size_t>(text)]);
      }
    }
    double sum = 0;
    const auto now = answer_logprobs(policy_, other.texts, options_.temperature);
    for (size_t i = 0; i < now.size(); ++i) sum += now[i] - other.reference[i];
    mine.insert(mine.end(), {sum, static_cast<double>(now.size())});
  }
  const auto all = gather_shards(context_.communicator, mine, "KL of other prompts' answers");
  double sum = 0, count = 0;
  for (size_t i = 0; i < all.size(); i += 2) sum += all[i], count += all[i + 1];
  return sum / count;
}

void DirectTrainer::look() {
  optimizer_.hold_whole();
  checkpoints_.guard([&] {
    const auto held_out = evaluate_direct(policy_, texts_, problem_.held_out, options_);
    if (result_.steps == 0) {
      result_.before = held_out;
      result_.training_before = evaluate_direct(policy_, texts_, sample_, options_);
    }
    if (result_.steps == steps_) {
      result_.after = held_out;
      result_.training_after = evaluate_direct(policy_, texts_, sample_, options_);
    }
    const bool due = problem_.look_every > 0 && result_.steps % problem_.look_every == 0;
    if (problem_.look && (due || result_.steps == steps_)) problem_.look(result_.steps, held_out);
  });
  if (result_.steps < steps_) optimizer_.hold_parts();
}

void DirectTrainer::step(const Pairs& batch, double peak) {
  const auto begin = Clock::now();
  const auto shards = shards_of(batch);
  DirectObjective objective = {.options = options_, .judgements = judgements_of(batch)};
  objective.micro_tokens =
      options_.micro_tokens > 0 ? options_.micro_tokens : fitting_tokens(policy_);
  if (options_.loss == "kto") objective.kl = mean_kl(shards);
  std::vector<double> report;
  for (size_t s = 0; s < shards.size(); ++s) {
    const auto figures = accumulate_direct_gradients(
        policy_, texts_, shards[s], objective,
        s + 1 == shards.size() ? [&] { optimizer_.expect_last_backward(); }
                               : std::function<void()>());
    const auto numbers = figures.numbers();
    report.insert(report.end(), numbers.begin(), numbers.end());
    optimizer_.end_shard();
  }
  times_.lap("forward_backward", optimizer_.waited());
  append_rank_figures(report, times_.seconds("forward_backward"));
  const double lr = optimizer_.lr();
  checkpoints_.await_copy();
  times_.lap("checkpoint");
  const double norm = optimizer_.step(&report);
  times_.lap("optimizer", optimizer_.waited());
  const auto ranks = take_rank_figures(report, context_.communicator.world());
  std::array<double, DirectFigures::kNumbers> sums{};
  for (size_t i = 0; i < report.size(); ++i) sums[i % sums.size()] += report[i];
  const auto figures = DirectFigures::of(sums.data());
  int64_t tokens = 0;
  for (const auto& pair : batch) {
    for (const int64_t text : {pair.first, pair.second}) {
      tokens += static_cast<int64_t>(texts_.texts[static_cast<size_t>(text)].tokens.size()) - 1;
    }
  }
  if (result_.steps++ == 0) result_.first_loss = figures.loss;
  result_.tokens += tokens;
  const double seconds = seconds_since(begin), read = static_cast<double>(tokens);
  const double length = read / static_cast<double>(2 * batch.size());
  result_.seconds += seconds;
  MetricValues values = {{"direct/loss", figures.loss},
                         {"direct/accuracy", figures.accuracy},
                         {"direct/margin", figures.margin},
                         {"direct/chosen_reward", figures.chosen_reward},
                         {"direct/rejected_reward", figures.rejected_reward},
                         {"direct/chosen_logprob", figures.chosen_logprob},
                         {"direct/rejected_logprob", figures.rejected_logprob},
                         {"direct/grad_norm", norm},
                         {"direct/lr", lr}};
  append_speed("direct", read / seconds, context_.communicator.world(),
               read / seconds * training_flops(policy_, length) / peak, ranks, values);
  if (options_.loss == "kto") values.emplace_back("direct/kl", objective.kl);
  times_.report("direct", values);
  context_.metrics.step(
      result_.steps, values,
      {"direct/loss", "direct/accuracy", "direct/margin", "direct/chosen_logprob"});
}

TrainingState DirectTrainer::state() {
  TrainingState state;
  add_training(state, "model", policy_.parameters(), optimizer_);
  state.scalars.update({{"steps", result_.steps},
                        {"tokens", result_.tokens},
                        {"first_loss", result_.first_loss},
                        {"before", result_.before.numbers()},
                        {"training_before", result_.training_before.numbers()},
                        {"seconds", result_.seconds}});
  return state;
}

std::string DirectTrainer::data_hash() const {
  TokensHash hash;
  for (const auto& text : texts_.texts) hash.add(text);
  for (const auto* pairs : {&problem_.pairs, &problem_.held_out}) {
    for (const auto& pair : *pairs) {
      hash.add(std::to_string(pair.first) + " " + std::to_string(pair.second) + " " +
               std::to_string(pair.first_wins) + " " + std::to_string(pair.second_wins) + "\n");
    }
  }
  return hash.hex();
}

void DirectTrainer::resume() {
  const auto saved = checkpoints_.resume({&policy_.parameters()}, [&] { return data_hash(); });
  if (!saved) return;
  restore_training(*saved, "model", policy_.parameters(), optimizer_);
  const auto& scalars = saved->scalars();
  const auto figures = [&](const char* name) {
    return DirectFigures::of(scalars.at(name).get<std::vector<double>>().data());
  };
  result_.steps = scalars.at("steps");
  result_.tokens = scalars.at("tokens");
  result_.first_loss = scalars.at("first_loss");
  result_.before = figures("before");
  result_.training_before = figures("training_before");
  result_.seconds = scalars.at("seconds");
}

DirectResult DirectTrainer::run() {
  // As many training pairs as are held out, evenly spaced.
  const int64_t count = std::min(pairs(), static_cast<int64_t>(problem_.held_out.size()));
  for (int64_t i = 0; i < count; ++i) {
    sample_.push_back(problem_.pairs[static_cast<size_t>(i * pairs() / count)]);
  }
  // The policy is still the reference here; what a resumed training goes on from is not.
  optimizer_.hold_whole();
  measure_reference();
  optimizer_.hold_parts();
  resume();
  context_.metrics.begin_stage("direct", steps_, "train");
  const double peak = measured_matrix_flops(policy_.parameters().data().device()) * world();
  while (true) {
    checkpoints_.boundary({result_.steps}, [&] { return state(); });
    times_.lap("checkpoint");
    const bool last = result_.steps == steps_;
    if (last || result_.steps == 0 ||
        (problem_.look_every > 0 && result_.steps % problem_.look_every == 0)) {
      look();
    }
    if (last) break;
    times_.lap("looks");
    step(batch(result_.steps), peak);
  }
  checkpoints_.finish();
  context_.metrics.end_stage();
  return result_;
}

}  // namespace

DirectResult train_direct(DirectProblem& problem, const DirectOptions& options,
                          const TrainingContext& context) {
  validate(problem, options);
  return DirectTrainer(problem, options, context).run();
}

}  // namespace hone::engine
