#include "engine/trainers/reward_trainer.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <numeric>
#include <span>
#include <string>

#include "data/error.h"
#include "engine/packing/random_order.h"
#include "engine/runtime/signals.h"
#include "engine/trainers/rater_training.h"
#include "engine/trainers/step_figures.h"
#include "engine/trainers/training_checkpoint.h"
#include "engine/trainers/utilization.h"
#include "kernels/ops.h"

namespace hone::engine {
namespace {

using data::InputError;

/// The pairs of a batch as the loss reads them, on the model's device and in its dtype.
struct PairTensors {
  at::Tensor first, second;    // [P] int64, positions of the items in the batch
  at::Tensor target, weights;  // [P]
};

PairTensors pair_tensors(const std::vector<reward::Pair>& pairs, const at::TensorOptions& options) {
  const auto count = static_cast<int64_t>(pairs.size());
  std::vector<int64_t> places(2 * pairs.size());
  std::vector<double> numbers(2 * pairs.size());
  for (size_t p = 0; p < pairs.size(); ++p) {
    places[p] = pairs[p].first;
    places[pairs.size() + p] = pairs[p].second;
    numbers[p] = pairs[p].target;
    numbers[pairs.size() + p] = pairs[p].weight;
  }
  // The vectors die here: `to` must copy even where nothing changes.
  const at::Tensor index =
      at::from_blob(places.data(), {2, count}, at::kLong).to(options.dtype(at::kLong), false, true);
  const at::Tensor values =
      at::from_blob(numbers.data(), {2, count}, at::kDouble).to(options, false, true);
  return {index.select(0, 0), index.select(0, 1), values.select(0, 0), values.select(0, 1)};
}

/// Share of the pairs with a majority whose sign the differences get right.
double batch_accuracy(const at::Tensor& delta, const std::vector<reward::Pair>& pairs) {
  const at::Tensor cpu = delta.detach().to(at::kCPU, at::kDouble).contiguous();
  const double* values = cpu.const_data_ptr<double>();
  double right = 0.0, count = 0.0;
  for (size_t p = 0; p < pairs.size(); ++p) {
    if (pairs[p].target == 0.5f) continue;
    right += values[p] == 0.0 ? 0.5 : (values[p] > 0.0) == (pairs[p].target > 0.5f) ? 1.0 : 0.0;
    count += 1.0;
  }
  return count == 0.0 ? 0.0 : right / count;
}

void check_options(const RewardTrainingOptions& options) {
  const auto check = [](bool fine, const char* option, const char* expected, double got) {
    if (!fine) throw InputError("reward training", option, expected, std::to_string(got));
  };
  check(options.epochs > 0.0 && std::isfinite(options.epochs), "epochs", "a number above 0",
        options.epochs);
  check(options.lapse >= 0.0 && options.lapse < 0.5, "lapse", "0 <= lapse < 0.5", options.lapse);
  check(options.dropout >= 0.0 && options.dropout < 1.0, "dropout", "0 <= dropout < 1",
        options.dropout);
  check_precision("reward training", options.precision, options.dropout);
  check(options.centering >= 0.0 && std::isfinite(options.centering), "centering", "0 or more",
        options.centering);
  check(options.average_decay >= 0.0 && options.average_decay < 1.0, "average_decay",
        "0 <= average_decay < 1", options.average_decay);
  if (options.loss == "davidson") {
    check(options.tie >= 0.0 && std::isfinite(options.tie), "tie", "0 or more for davidson",
          options.tie);
  } else if (options.loss == "rao_kupper") {
    check(options.tie >= 1.0 && std::isfinite(options.tie), "tie", "1 or more for rao_kupper",
          options.tie);
  } else if (options.loss != "bradley_terry") {
    throw InputError("reward training", "loss", "bradley_terry, davidson or rao_kupper",
                     "'" + options.loss + "'");
  }
}

void check_inputs(const CausalLM& model, const reward::PreferenceData& data,
                  const std::vector<TokenIds>& tokens) {
  if (model.head() != HeadKind::kScalar) {
    throw InputError("reward training", "model", "a scalar head", "a language model");
  }
  for (const int64_t item : data.items()) {
    if (item >= static_cast<int64_t>(tokens.size()) || tokens[static_cast<size_t>(item)].empty()) {
      throw InputError("reward training", "tokens of item " + std::to_string(item),
                       "at least one token", "none");
    }
  }
}

/// Dropout that ends with the training, however that ends.
class TrainingDropout {
 public:
  TrainingDropout(CausalLM& model, double p, uint64_t seed) : model_(model) {
    model_.set_dropout(p, seed);
  }
  ~TrainingDropout() { model_.set_dropout(0.0, 0); }
  TrainingDropout(const TrainingDropout&) = delete;
  TrainingDropout& operator=(const TrainingDropout&) = delete;

 private:
  CausalLM& model_;
};

PackedTokens pack_items(const CausalLM& model, const std::vector<int64_t>& items,
                        const std::vector<TokenIds>& tokens) {
  std::vector<std::span<const int32_t>> sequences;
  sequences.reserve(items.size());
  for (const int64_t item : items) sequences.emplace_back(tokens[static_cast<size_t>(item)]);
  return pack(sequences, model.parameters().data().device());
}

/// Loss, accuracy and moments of the scores of one batch; gradients are in the arena.
struct StepResult {
  double loss = 0, accuracy = 0, score_mean = 0, score_std = 0;
};

/// The loss of a batch's scores; its gradient goes back to them.
StepResult loss_backward(const at::Tensor& scores, const reward::PairBatch& batch,
                         const RewardTrainingOptions& options, RaterTraining& raters) {
  reward::RaterModel::Expected expected;
  if (raters) expected = raters.step(batch, scores);
  const PairTensors pairs = pair_tensors(raters ? expected.pairs : batch.pairs, scores.options());
  const at::Tensor delta =
      scores.index_select(0, pairs.first) - scores.index_select(0, pairs.second);
  kernels::PreferenceLossOptions loss_options;
  loss_options.model = options.loss;
  loss_options.tie = options.tie;
  loss_options.lapse = options.lapse;
  const at::Tensor preference =
      kernels::preference_loss(delta, pairs.target, pairs.weights, std::nullopt, loss_options);
  const at::Tensor mean = scores.mean();
  (preference + options.centering * mean.square()).backward();

  StepResult result;
  result.loss = raters ? expected.loss : preference.item<double>();
  result.accuracy = batch_accuracy(delta, batch.pairs);
  result.score_mean = mean.item<double>();
  result.score_std = scores.numel() > 1 ? scores.detach().std().item<double>() : 0.0;
  return result;
}

StepResult forward_backward(CausalLM& model, const reward::PairBatch& batch,
                            const std::vector<TokenIds>& tokens,
                            const RewardTrainingOptions& options, RaterTraining& raters) {
  const PackedTokens packed = pack_items(model, batch.items, tokens);
  return loss_backward(reward::sequence_scores(model, packed.tokens, packed.cu_seqlens), batch,
                       options, raters);
}

/// The same with the batch's texts dealt to logical shards: every rank scores its own, all see all
/// scores and so the same loss, and each takes the gradient of its own back.
StepResult forward_backward_shards(CausalLM& model, Optimizer& optimizer,
                                   const reward::PairBatch& batch,
                                   const std::vector<TokenIds>& tokens,
                                   const RewardTrainingOptions& options, RaterTraining& raters,
                                   const TrainingContext& context, uint64_t dropout_seed) {
  const auto span = context.span();
  std::vector<int64_t> order(batch.items.size()), lengths;
  std::iota(order.begin(), order.end(), int64_t{0});
  for (const int64_t item : batch.items) {
    lengths.push_back(static_cast<int64_t>(tokens[static_cast<size_t>(item)].size()));
  }
  const auto shards = balanced_parts(order, lengths, span.shards);
  const auto options_of_scores = model.parameters().data().options();
  const at::Tensor all = at::zeros({static_cast<int64_t>(order.size())}, options_of_scores);
  std::vector<at::Tensor> mine;
  const auto end = std::min(span.end, static_cast<int64_t>(shards.size()));
  const auto step = static_cast<uint64_t>(optimizer.steps_done());
  for (int64_t s = span.begin; s < end; ++s) {
    const auto& places = shards[static_cast<size_t>(s)];
    std::vector<int64_t> items;
    for (const int64_t place : places) items.push_back(batch.items[static_cast<size_t>(place)]);
    const auto place = step * static_cast<uint64_t>(span.shards) + static_cast<uint64_t>(s);
    if (options.dropout > 0) model.set_dropout(options.dropout, mix_seed(dropout_seed, place));
    const PackedTokens packed = pack_items(model, items, tokens);
    mine.push_back(reward::sequence_scores(model, packed.tokens, packed.cu_seqlens));
    all.narrow(0, places.front(), mine.back().numel()).copy_(mine.back().detach());
  }
  model.meet();
  share_disjoint(context.communicator, all, "scores of a batch");
  const at::Tensor scores = all.detach().requires_grad_(true);
  const StepResult result = loss_backward(scores, batch, options, raters);
  for (int64_t s = span.begin; s < span.end; ++s) {
    if (s < end) {
      if (s + 1 == span.end) optimizer.expect_last_backward();
      const auto& own = mine[static_cast<size_t>(s - span.begin)];
      own.backward(scores.grad().narrow(0, shards[static_cast<size_t>(s)].front(), own.numel()));
    }
    optimizer.end_shard();
  }
  return result;
}

/// Exponential moving average of all parameters, unbiased at any step (Adam's correction); of a
/// rank's part of them where an optimizer's state is in parts.
class WeightAverage {
 public:
  WeightAverage(double decay, const CausalLM& model, const Optimizer& optimizer)
      : decay_(decay), data_(model.parameters().data()), owned_(optimizer.owned()) {}
  void add() {
    if (decay_ <= 0.0) return;
    const at::NoGradGuard no_grad;
    if (!sum_.defined()) sum_ = zeros();
    each([&](const at::Tensor& sum, const at::Tensor& data, int64_t) {
      sum.mul_(decay_).add_(data, 1.0 - decay_);
    });
    share_ *= decay_;
  }
  void save(TrainingState& state) const {
    if (!sum_.defined()) return;
    each([&](const at::Tensor& sum, const at::Tensor&, int64_t begin) {
      state.add_interval("average", sum, data_.numel(), begin);
    });
    state.scalars["average_share"] = share_;
  }
  void restore(const SavedState& saved) {
    if (!saved.has("average")) return;
    sum_ = zeros();
    each([&](const at::Tensor& sum, const at::Tensor&, int64_t begin) {
      saved.read("average", sum, data_.numel(), begin);
    });
    share_ = saved.scalars().at("average_share");
  }
  /// In place of the parameters, as far as they are this rank's to change.
  void apply() const {
    if (!sum_.defined()) return;
    const at::NoGradGuard no_grad;
    each([&](const at::Tensor& sum, const at::Tensor& data, int64_t) {
      data.copy_(sum / (1.0 - share_));
    });
  }

 private:
  at::Tensor zeros() const {
    int64_t elements = 0;
    for (const auto& own : owned_) elements += own.size();
    return at::zeros({elements}, data_.options());
  }
  template <class F>
  void each(const F& act) const {
    int64_t at = 0;
    for (const auto& own : owned_) {
      act(sum_.narrow(0, at, own.size()), data_.narrow(0, own.begin, own.size()), own.begin);
      at += own.size();
    }
  }

  double decay_, share_ = 1.0;
  at::Tensor data_, sum_;
  const std::vector<ArenaInterval>& owned_;
};

std::string hash_of(const reward::PreferenceData& data, const std::vector<TokenIds>& tokens) {
  TokensHash hash;
  for (const int64_t item : data.items()) hash.add(tokens[static_cast<size_t>(item)]);
  return hash.add(std::to_string(data.judgements())).hex();
}

constexpr int64_t kFinalSteps = 20;  // final_loss is the mean of this many last steps

}  // namespace

RewardTrainingResult train_reward(CausalLM& model, const reward::PreferenceData& data,
                                  const std::vector<TokenIds>& tokens,
                                  const RewardTrainingOptions& options, uint64_t seed,
                                  const TrainingContext& context) {
  auto& metrics = context.metrics;
  check_options(options);
  check_inputs(model, data, tokens);
  const auto start = std::chrono::steady_clock::now();
  const int64_t batches = data.batches_per_epoch();
  const auto total = std::max<int64_t>(
      1, std::llround(options.epochs * static_cast<double>(std::max<int64_t>(batches, 1))));
  Optimizer optimizer(model.parameters(), options.optimizer, total,
                      context.plan(context.communicator));
  model.parameters().zero_grad();
  const TrainingDropout dropout(model, options.dropout, mix_seed(seed, 1));
  const PrecisionScope precision({&model}, options.precision, options.dropout);
  WeightAverage average(options.average_decay, model, optimizer);
  RaterTraining raters(options.raters, options.loss, options.lapse, data,
                       static_cast<int64_t>(tokens.size()));

  RewardTrainingResult result;
  int64_t epoch = 0;
  size_t next_batch = 0;
  double seconds_before = 0;
  const auto seconds = [&] {
    return seconds_before +
           std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const auto state = [&] {
    TrainingState state;
    add_training(state, "model", model.parameters(), optimizer);
    average.save(state);
    raters.save(state);
    state.scalars.update({{"steps", result.steps},
                          {"final_loss", result.final_loss},
                          {"epoch", epoch},
                          {"next_batch", next_batch},
                          {"dropout_calls", model.dropout_calls()},
                          {"seconds", seconds()}});
    return state;
  };
  TrainingCheckpoints checkpoints(context.checkpointer);
  if (const auto saved =
          checkpoints.resume({&model.parameters()}, [&] { return hash_of(data, tokens); })) {
    restore_training(*saved, "model", model.parameters(), optimizer);
    average.restore(*saved);
    raters.restore(*saved);
    const auto& scalars = saved->scalars();
    result.steps = scalars.at("steps");
    result.final_loss = scalars.at("final_loss");
    epoch = scalars.at("epoch");
    next_batch = scalars.at("next_batch");
    seconds_before = scalars.at("seconds");
    model.set_dropout(options.dropout, mix_seed(seed, 1), scalars.at("dropout_calls"));
  }
  metrics.begin_stage("reward", total);
  const auto world = static_cast<double>(context.communicator.world());
  const double peak = measured_matrix_flops(model.parameters().data().device()) * world;
  StepTimes times;
  for (; result.steps < total; ++epoch, next_batch = 0) {
    const auto epoch_batches = data.epoch(seed, epoch);
    if (epoch_batches.empty()) {
      throw InputError("reward training", "preferences", "at least one comparable pair", "none");
    }
    while (next_batch < epoch_batches.size() && result.steps < total) {
      checkpoints.boundary({result.steps}, state);
      times.lap("checkpoint");
      const auto step_begin = std::chrono::steady_clock::now();
      const auto& batch = epoch_batches[next_batch++];
      const double lr = optimizer.lr();
      const StepResult step =
          context.shards == 1 ? forward_backward(model, batch, tokens, options, raters)
                              : forward_backward_shards(model, optimizer, batch, tokens, options,
                                                        raters, context, mix_seed(seed, 1));
      times.lap("forward_backward", optimizer.waited());
      std::vector<double> report;
      append_rank_figures(report, times.seconds("forward_backward"));
      checkpoints.await_copy();
      times.lap("checkpoint");
      const double grad_norm = optimizer.step(&report);
      times.lap("optimizer", optimizer.waited());
      const auto ranks = take_rank_figures(report, context.communicator.world());
      average.add();
      double read = 0;
      for (const int64_t item : batch.items) {
        read += static_cast<double>(tokens[static_cast<size_t>(item)].size());
      }
      const double speed =
          read /
          std::chrono::duration<double>(std::chrono::steady_clock::now() - step_begin).count();
      const double flops = training_flops(model, read / static_cast<double>(batch.items.size()));
      MetricValues values = {{"reward/loss", step.loss},
                             {"reward/accuracy", step.accuracy},
                             {"reward/lr", lr},
                             {"reward/grad_norm", grad_norm},
                             {"reward/score_mean", step.score_mean},
                             {"reward/score_std", step.score_std},
                             {"reward/tokens", read}};
      append_speed("reward", speed, context.communicator.world(), speed * flops / peak, ranks,
                   values);
      if (raters) values.push_back({"reward/rater_reliability", raters.model()->average()});
      times.report("reward", values);
      metrics.step(++result.steps, values, {"reward/loss", "reward/accuracy", "reward/lr"});
      if (result.steps > total - kFinalSteps) {
        result.final_loss += step.loss / static_cast<double>(std::min(total, kFinalSteps));
      }
    }
  }
  checkpoints.boundary({result.steps}, state);
  checkpoints.finish();
  average.apply();
  optimizer.hold_whole(/*changed=*/true);
  metrics.end_stage();
  result.seconds = seconds();
  result.raters = raters.model();
  return result;
}

std::vector<float> score_sequences(CausalLM& model, const std::vector<TokenIds>& sequences,
                                   int64_t batch_tokens) {
  const at::NoGradGuard no_grad;
  std::vector<int64_t> order(sequences.size()), lengths;
  std::iota(order.begin(), order.end(), int64_t{0});
  for (const auto& sequence : sequences) lengths.push_back(static_cast<int64_t>(sequence.size()));
  std::vector<float> scores(sequences.size());
  for (const auto& batch : fill_batches(order, lengths, batch_tokens)) {
    check_interrupted();
    const PackedTokens packed = pack_items(model, batch, sequences);
    const at::Tensor out = reward::sequence_scores(model, packed.tokens, packed.cu_seqlens)
                               .to(at::kCPU, at::kFloat)
                               .contiguous();
    const float* values = out.const_data_ptr<float>();
    for (size_t i = 0; i < batch.size(); ++i) scores[static_cast<size_t>(batch[i])] = values[i];
  }
  return scores;
}

}  // namespace hone::engine
