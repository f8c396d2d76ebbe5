#include "engine/trainers/lm_trainer.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <numeric>
#include <string>

#include "data/error.h"
#include "engine/packing/random_order.h"
#include "engine/runtime/signals.h"
#include "engine/trainers/step_figures.h"
#include "engine/trainers/training_checkpoint.h"
#include "engine/trainers/utilization.h"
#include "kernels/ops.h"

namespace hone::engine {
namespace {

constexpr int64_t kEvaluationTokens = 16384;
constexpr size_t kFinalSteps = 50;

int64_t read_tokens(const TrainingText& text) {
  return static_cast<int64_t>(text.tokens.size()) - 1;
}

int64_t predicted_tokens(const TrainingText& text) {
  const auto size = static_cast<int64_t>(text.tokens.size());
  return std::max<int64_t>(0, size - std::max<int64_t>(1, text.prompt_tokens));
}

int64_t predicted_tokens(const std::vector<const TrainingText*>& texts) {
  int64_t predicted = 0;
  for (const auto* text : texts) predicted += predicted_tokens(*text);
  return predicted;
}

/// The texts that a loss can be taken of.
std::vector<const TrainingText*> usable_texts(const CausalLM& model,
                                              const std::vector<TrainingText>& texts) {
  std::vector<const TrainingText*> usable;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (read_tokens(texts[i]) > model.config().max_positions) {
      throw data::InputError("language model", "text " + std::to_string(i),
                             "at most " + std::to_string(model.config().max_positions) + " tokens",
                             std::to_string(read_tokens(texts[i])));
    }
    if (predicted_tokens(texts[i]) > 0) usable.push_back(&texts[i]);
  }
  return usable;
}

std::vector<int64_t> read_lengths(const std::vector<const TrainingText*>& texts) {
  std::vector<int64_t> lengths;
  lengths.reserve(texts.size());
  for (const auto* text : texts) lengths.push_back(read_tokens(*text));
  return lengths;
}

std::vector<int64_t> natural_order(size_t n) {
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), int64_t{0});
  return order;
}

std::vector<const TrainingText*> select(const std::vector<const TrainingText*>& texts,
                                        const std::vector<int64_t>& indices) {
  std::vector<const TrainingText*> chosen;
  chosen.reserve(indices.size());
  for (const int64_t i : indices) chosen.push_back(texts[static_cast<size_t>(i)]);
  return chosen;
}

/// Dropout is on while this lives.
class DropoutScope {
 public:
  DropoutScope(CausalLM& model, double p, uint64_t seed) : model_(model) {
    model_.set_dropout(p, seed);
  }
  ~DropoutScope() { model_.set_dropout(0.0, 0); }
  DropoutScope(const DropoutScope&) = delete;
  DropoutScope& operator=(const DropoutScope&) = delete;

 private:
  CausalLM& model_;
};

void validate(const LmTrainingOptions& options, size_t texts) {
  const auto require = [](bool ok, const char* what, const char* expected, double got) {
    if (!ok) throw data::InputError("language model", what, expected, std::to_string(got));
  };
  require(texts > 0, "texts", "at least one with a token to predict", 0);
  require(options.steps >= 0, "steps", "a number >= 0", static_cast<double>(options.steps));
  require(options.steps > 0 || options.epochs > 0, "epochs", "a number > 0", options.epochs);
  require(options.batch_tokens > 0, "batch_tokens", "a number > 0",
          static_cast<double>(options.batch_tokens));
  require(options.micro_tokens >= 0, "micro_tokens", "a number >= 0",
          static_cast<double>(options.micro_tokens));
  require(options.dropout >= 0 && options.dropout < 1, "dropout", "a number in [0, 1)",
          options.dropout);
  check_precision("language model", options.precision, options.dropout);
}

std::string hash_of(const std::vector<const TrainingText*>& texts) {
  TokensHash hash;
  for (const auto* text : texts) hash.add(*text);
  return hash.hex();
}

}  // namespace

double accumulate_lm_gradients(CausalLM& model, const std::vector<const TrainingText*>& texts,
                               int64_t micro_tokens, int64_t predicted,
                               const std::function<void()>& before_last) {
  if (predicted == 0) predicted = predicted_tokens(texts);
  double loss = 0.0;
  const auto parts = fill_batches(natural_order(texts.size()), read_lengths(texts), micro_tokens);
  for (const auto& part : parts) {
    const auto batch = next_token_batch(select(texts, part), model.parameters().data().device());
    const auto hidden = model.hidden(batch.input.tokens, batch.input.cu_seqlens, batch.predict);
    const auto weights = at::full(batch.targets.sizes(), 1.0 / static_cast<double>(predicted),
                                  model.parameters().data().options());
    const auto result =
        kernels::head_nll(hidden, model.lm_head(), batch.targets, weights, /*temperature=*/1.0);
    if (before_last && &part == &parts.back()) before_last();
    result.loss.backward();
    loss += result.loss.item<double>();
  }
  return loss;
}

namespace {

/// Gradients of this rank's shards of one step's texts; returns the losses, whose sum over all
/// shards is the mean over the step's tokens.
std::vector<double> accumulate_shards(CausalLM& model, Optimizer& optimizer,
                                      const std::vector<const TrainingText*>& texts,
                                      const LmTrainingOptions& options, const ShardSpan& span,
                                      uint64_t dropout_seed) {
  if (span.shards == 1) return {accumulate_lm_gradients(model, texts, options.micro_tokens)};
  const auto step = static_cast<uint64_t>(optimizer.steps_done());
  const auto shards = balanced_parts(natural_order(texts.size()), read_lengths(texts), span.shards);
  const int64_t predicted = predicted_tokens(texts);
  std::vector<double> losses;
  for (int64_t s = span.begin; s < span.end; ++s) {
    std::vector<const TrainingText*> mine;
    if (s < static_cast<int64_t>(shards.size()))
      mine = select(texts, shards[static_cast<size_t>(s)]);
    // Masks depend on step and shard, not on what this rank has drawn before.
    const auto place = step * static_cast<uint64_t>(span.shards) + static_cast<uint64_t>(s);
    if (options.dropout > 0) model.set_dropout(options.dropout, mix_seed(dropout_seed, place));
    losses.push_back(accumulate_lm_gradients(
        model, mine, options.micro_tokens, predicted,
        s + 1 == span.end ? [&] { optimizer.expect_last_backward(); } : std::function<void()>()));
    optimizer.end_shard();
  }
  return losses;
}

}  // namespace

LmTrainingResult train_lm(CausalLM& model, const std::vector<TrainingText>& all_texts,
                          const LmTrainingOptions& options, uint64_t seed, const std::string& area,
                          const TrainingContext& context) {
  auto& metrics = context.metrics;
  const auto texts = usable_texts(model, all_texts);
  validate(options, texts.size());
  const auto lengths = read_lengths(texts);
  auto batches = token_batches(lengths, options.batch_tokens, seed, 0);
  const int64_t steps =
      options.steps > 0
          ? options.steps
          : std::max<int64_t>(1,
                              std::llround(options.epochs * static_cast<double>(batches.size())));
  const auto span = context.span();
  Optimizer optimizer(model.parameters(), options.optimizer, steps,
                      context.plan(context.communicator));
  const DropoutScope dropout(model, options.dropout, mix_seed(seed, 1));
  const PrecisionScope precision({&model}, options.precision, options.dropout);

  LmTrainingResult result;
  std::deque<double> last_losses;
  int64_t epoch = 0;
  size_t next_batch = 0;
  double seconds_before = 0;
  TrainingCheckpoints checkpoints(context.checkpointer);
  using Clock = std::chrono::steady_clock;
  const auto since = [](Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  const auto begin = Clock::now();
  const auto state = [&] {
    TrainingState state;
    add_training(state, "model", model.parameters(), optimizer);
    state.scalars.update({{"steps", result.steps},
                          {"tokens", result.tokens},
                          {"last_losses", last_losses},
                          {"epoch", epoch},
                          {"next_batch", next_batch},
                          {"dropout_calls", model.dropout_calls()},
                          {"seconds", seconds_before + since(begin)}});
    return state;
  };
  if (const auto saved =
          checkpoints.resume({&model.parameters()}, [&] { return hash_of(texts); })) {
    restore_training(*saved, "model", model.parameters(), optimizer);
    const auto& scalars = saved->scalars();
    result.steps = scalars.at("steps");
    result.tokens = scalars.at("tokens");
    last_losses = scalars.at("last_losses").get<std::deque<double>>();
    epoch = scalars.at("epoch");
    next_batch = scalars.at("next_batch");
    seconds_before = scalars.at("seconds");
    model.set_dropout(options.dropout, mix_seed(seed, 1), scalars.at("dropout_calls"));
    batches = token_batches(lengths, options.batch_tokens, seed, epoch);
  }
  metrics.begin_stage(area, steps);
  const double peak = measured_matrix_flops(model.parameters().data().device()) *
                      static_cast<double>(context.communicator.world());
  StepTimes times;
  while (result.steps < steps) {
    checkpoints.boundary({result.steps}, state);
    times.lap("checkpoint");
    if (next_batch == batches.size()) {
      batches = token_batches(lengths, options.batch_tokens, seed, ++epoch);
      next_batch = 0;
    }
    const auto step_begin = Clock::now();
    const auto chosen = select(texts, batches[next_batch++]);
    int64_t tokens = 0;
    for (const auto* text : chosen) tokens += read_tokens(*text);
    auto losses = accumulate_shards(model, optimizer, chosen, options, span, mix_seed(seed, 1));
    times.lap("forward_backward", optimizer.waited());
    append_rank_figures(losses, times.seconds("forward_backward"));
    const double lr = optimizer.lr();
    checkpoints.await_copy();
    times.lap("checkpoint");
    const double norm = optimizer.step(&losses);
    times.lap("optimizer", optimizer.waited());
    const auto ranks = take_rank_figures(losses, context.communicator.world());
    const double loss = std::accumulate(losses.begin(), losses.end(), 0.0);
    ++result.steps;
    result.tokens += tokens;
    last_losses.push_back(loss);
    if (last_losses.size() > kFinalSteps) last_losses.pop_front();
    const double speed = static_cast<double>(tokens) / since(step_begin);
    const double length = static_cast<double>(tokens) / static_cast<double>(chosen.size());
    MetricValues values = {{area + "/loss", loss},
                           {area + "/perplexity", std::exp(loss)},
                           {area + "/lr", lr},
                           {area + "/grad_norm", norm}};
    append_speed(area, speed, context.communicator.world(),
                 speed * training_flops(model, length) / peak, ranks, values);
    times.report(area, values);
    metrics.step(result.steps, values,
                 {area + "/loss", area + "/perplexity", area + "/tokens_per_second"});
  }
  checkpoints.boundary({result.steps}, state);
  checkpoints.finish();
  optimizer.hold_whole();
  metrics.end_stage();
  result.final_loss = std::accumulate(last_losses.begin(), last_losses.end(), 0.0) /
                      static_cast<double>(last_losses.size());
  result.seconds = seconds_before + since(begin);
  return result;
}

LmEvaluation evaluate_lm(CausalLM& model, const std::vector<TrainingText>& all_texts) {
  const at::NoGradGuard no_grad;
  const auto texts = usable_texts(model, all_texts);
  LmEvaluation result;
  for (const auto& part :
       fill_batches(natural_order(texts.size()), read_lengths(texts), kEvaluationTokens)) {
    check_interrupted();
    const auto batch = next_token_batch(select(texts, part), model.parameters().data().device());
    const auto hidden = model.hidden(batch.input.tokens, batch.input.cu_seqlens, batch.predict);
    const auto scored = kernels::token_logprobs(hidden, model.lm_head(), batch.targets, 1.0);
    result.total_nats -= scored.logprobs.sum(at::kDouble).item<double>();
    result.tokens += batch.targets.numel();
  }
  if (result.tokens > 0) {
    result.nats_per_token = result.total_nats / static_cast<double>(result.tokens);
  }
  result.perplexity = std::exp(result.nats_per_token);
  return result;
}

}  // namespace hone::engine
