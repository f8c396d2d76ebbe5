#include "engine/optim/optimizer.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "data/error.h"
#include "kernels/ops.h"

namespace hone::engine {
namespace {

void validate(const OptimizerOptions& o) {
  const auto require = [](bool ok, const char* what, const char* expected, auto got) {
    if (!ok) throw data::InputError("optimizer", what, expected, got);
  };
  const auto number = [&](bool ok, const char* what, const char* expected, double got) {
    require(ok, what, expected, std::to_string(got));
  };
  require(o.kind == "adamw" || o.kind == "muon", "kind", "adamw or muon", o.kind);
  number(std::isfinite(o.lr) && o.lr >= 0, "lr", "a finite number >= 0", o.lr);
  number(o.beta1 >= 0 && o.beta1 < 1, "beta1", "a number in [0, 1)", o.beta1);
  number(o.beta2 >= 0 && o.beta2 < 1, "beta2", "a number in [0, 1)", o.beta2);
  number(o.eps > 0, "eps", "a number > 0", o.eps);
  number(o.weight_decay >= 0, "weight_decay", "a number >= 0", o.weight_decay);
  number(o.clip_norm >= 0, "clip_norm", "a number >= 0", o.clip_norm);
  number(o.muon_lr_scale >= 0, "muon_lr_scale", "a number >= 0", o.muon_lr_scale);
  number(o.muon_momentum >= 0 && o.muon_momentum < 1, "muon_momentum", "a number in [0, 1)",
         o.muon_momentum);
  number(o.warmup_steps >= 0, "warmup_steps", "a number >= 0", static_cast<double>(o.warmup_steps));
  number(o.final_lr_fraction >= 0 && o.final_lr_fraction <= 1, "final_lr_fraction",
         "a number in [0, 1]", o.final_lr_fraction);
  schedule_factor(o, o.warmup_steps, o.warmup_steps + 1);  // throws for an unknown schedule
}

}  // namespace

Optimizer::Optimizer(ParameterArena& parameters, OptimizerOptions options, int64_t total_steps,
                     const RankPlan& plan)
    : parameters_(parameters),
      options_(std::move(options)),
      total_steps_(total_steps),
      plan_(plan) {
  validate(options_);
  if (!parameters_.grad_enabled()) parameters_.enable_grad();
  const at::NoGradGuard no_grad;
  const bool muon = options_.kind == "muon";
  apart_ = plan_.zero > 0 && plan_.communicator->world() > 1;
  if (plan_.shards > 1 || plan_.communicator->world() > 1) {
    exchange_ = std::make_unique<GradientExchange>(parameters_, plan_);
  }
  owned_ = {{0, parameters_.data().numel()}};
  if (apart_) owned_ = exchange_->owned();
  int64_t elements = 0;
  for (const auto& interval : owned_) elements += interval.size();
  state_.m = at::zeros({elements}, parameters_.data().options());
  state_.v = at::zeros({elements}, parameters_.data().options());
  if (muon) {
    muon_.emplace(parameters_);
    state_.momentum = at::zeros_like(state_.m);
  }
  // Neighbouring leaves of one kind are one slice; a leaf's padding belongs to the slice before.
  bool adjacent = false;
  for (const auto& leaf : parameters_.leaves()) {
    if (muon && leaf.in_block()) {
      adjacent = false;
      continue;
    }
    if (!adjacent) {
      ranges_.push_back({{leaf.offset, leaf.offset}, {leaf.decay}});
      adjacent = true;
    }
    auto& range = ranges_.back();
    if (range.decays.back() != leaf.decay) {
      range.offsets.back() = leaf.offset;
      range.offsets.push_back(leaf.offset);
      range.decays.push_back(leaf.decay);
    }
    range.offsets.back() = leaf.offset + leaf.numel;
  }
  if (apart_) gather_ = std::make_unique<ParameterGather>(parameters_, plan_, plan_.zero >= 3);
}

double Optimizer::lr() const {
  return options_.lr * schedule_factor(options_, state_.step, total_steps_);
}

void Optimizer::expect_last_backward() {
  // Buckets set out while the pass goes on only if it is every rank's: one that merely follows
  // brings its own after it.
  if (gather_ && !gather_->begin_last_backward()) return;
  if (exchange_) exchange_->expect_last_backward();
}

void Optimizer::end_shard() {
  if (exchange_) exchange_->end_shard();
}

void Optimizer::hold_whole(bool changed) {
  if (!gather_) return;
  if (changed) gather_->send_changes();
  gather_->hold_whole();
}

void Optimizer::hold_parts() {
  if (gather_ && plan_.zero >= 3) gather_->hold_parts();
}

double Optimizer::waited() {
  return (exchange_ ? exchange_->waited() : 0.0) + (gather_ ? gather_->waited() : 0.0);
}

/// The norm over all ranks; one message carries what it takes and the report.
double Optimizer::summed_norm(std::vector<double>* report) {
  exchange_->finish();
  auto message = exchange_->grain_squares();
  const size_t squares = message.size();
  message.push_back(exchange_->finite() ? 1.0 : 0.0);
  if (report) message.insert(message.end(), report->begin(), report->end());
  const auto all = gather_shards(*plan_.communicator, message, "gradient norm and figures");
  if (report) report->clear();
  std::vector<std::vector<double>> by_rank;
  for (auto rank = all.begin(); rank != all.end(); rank += static_cast<int64_t>(message.size())) {
    const auto finite = rank + static_cast<int64_t>(squares);
    if (*finite == 0.0) {
      throw data::Error("optimizer",
                        "gradient of rank " + std::to_string(by_rank.size()) + " in step " +
                            std::to_string(state_.step + 1),
                        "finite numbers", "an overflow or NaN");
    }
    by_rank.emplace_back(rank, finite);
    if (report)
      report->insert(report->end(), finite + 1, rank + static_cast<int64_t>(message.size()));
  }
  return std::sqrt(exchange_->total_square(by_rank));
}

double Optimizer::step(std::vector<double>* report) {
  const at::NoGradGuard no_grad;
  if (gather_) gather_->meet();
  const double norm =
      exchange_ ? summed_norm(report) : kernels::grad_norm(parameters_.grad()).item<double>();
  if (!std::isfinite(norm)) {
    throw data::Error("optimizer", "gradient norm of step " + std::to_string(state_.step + 1),
                      "a finite number", std::to_string(norm));
  }
  const double scale =
      options_.clip_norm > 0 ? std::min(1.0, options_.clip_norm / (norm + 1e-6)) : 1.0;
  const double rate = lr();
  ++state_.step;
  if (exchange_ && !apart_) exchange_->gather_sums();
  adamw(rate, scale);
  if (muon_) muon(rate, scale);
  if (gather_) gather_->send_changes(/*blocks_too=*/!muon_);
  // From stage 2 on a gradient that has left is zero already.
  if (!apart_ || plan_.zero < 2) parameters_.zero_grad();
  return norm;
}

/// Every rank averages its own part and turns all matrices: directions travel instead of
/// parameters. With parameters in parts, block by block, and it moves what it owns.
void Optimizer::muon(double rate, double scale) {
  const MuonStep step{.lr = rate * options_.muon_lr_scale,
                      .decay = rate * options_.weight_decay,
                      .momentum = options_.muon_momentum};
  int64_t stored = 0;
  for (size_t i = 0; i < owned_.size(); stored += owned_[i++].size()) {
    const auto& interval = owned_[i];
    for (const auto& leaf : parameters_.leaves()) {
      const int64_t begin = std::max(interval.begin, leaf.offset);
      const int64_t size = std::min(interval.end, leaf.offset + leaf.numel) - begin;
      if (!leaf.in_block() || size <= 0) continue;
      Muon::average(gradient_of(i).narrow(0, begin - interval.begin, size),
                    state_.momentum.narrow(0, stored + begin - interval.begin, size), scale, step);
    }
  }
  const std::vector<ArenaInterval> everything = {{0, parameters_.data().numel()}};
  const auto turn = [&](const std::vector<ArenaInterval>& owned, int64_t first, int64_t end) {
    muon_->step(parameters_.data(), parameters_.grad(), step, owned, first, end);
  };
  if (!apart_) return turn(everything, 0, std::numeric_limits<int64_t>::max());
  const bool in_parts = plan_.zero >= 3;
  const auto& buckets = exchange_->buckets();
  for (const auto& run : block_runs(buckets, /*together=*/!in_parts)) {
    exchange_->gather_sums(run.first, run.end);
    turn(in_parts ? owned_ : everything, run.first_block, run.end_block);
    if (plan_.zero >= 2) {
      parameters_.release_grad(buckets[run.first].begin, buckets[run.end - 1].end);
    }
  }
}

/// The summed gradient over owned interval `i`.
at::Tensor Optimizer::gradient_of(size_t i) const {
  return apart_ ? exchange_->sum_of(i) : parameters_.grad();
}

void Optimizer::adamw(double rate, double scale) {
  const kernels::AdamWOptions adam{options_.beta1, options_.beta2, options_.eps, "torch"};
  const auto grad_scale = at::full({}, scale, parameters_.grad().options());
  int64_t stored = 0;  // where the interval's state lies
  for (size_t i = 0; i < owned_.size(); stored += owned_[i++].size()) {
    const auto& interval = owned_[i];
    const auto grad = gradient_of(i);
    for (const auto& range : ranges_) {
      const int64_t begin = std::max(interval.begin, range.offsets.front());
      const int64_t size = std::min(interval.end, range.offsets.back()) - begin;
      if (size <= 0) continue;
      const auto part = [&](const at::Tensor& state) {
        return state.narrow(0, stored + begin - interval.begin, size);
      };
      std::vector<int64_t> offsets;
      for (const int64_t offset : range.offsets) {
        offsets.push_back(std::clamp<int64_t>(offset - begin, 0, size));
      }
      std::vector<double> rates, decays;
      for (const bool decay : range.decays) {
        rates.push_back(rate);
        decays.push_back(decay ? options_.weight_decay : 0.0);
      }
      kernels::adamw_step(parameters_.data().narrow(0, begin, size),
                          grad.narrow(0, begin - interval.begin, size), part(state_.m),
                          part(state_.v), offsets, rates, decays, grad_scale, state_.step, adam);
    }
  }
}

}  // namespace hone::engine
