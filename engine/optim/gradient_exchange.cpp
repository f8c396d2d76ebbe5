#include "engine/optim/gradient_exchange.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "engine/optim/stopwatch.h"
#include "kernels/ops.h"

namespace hone::engine {
namespace {

constexpr size_t kMostUnderWay = 8;  // buckets whose buffers live at once

}  // namespace

/// Autograd's word that a leaf's gradient has been added to the arena.
class GradientExchange::LeafHook : public torch::autograd::PostAccumulateGradHook {
 public:
  LeafHook(GradientExchange& exchange, int64_t leaf) : exchange_(exchange), leaf_(leaf) {}
  void operator()(const torch::autograd::Variable&) override { exchange_.leaf_done(leaf_); }

 private:
  GradientExchange& exchange_;
  int64_t leaf_;
};

GradientExchange::GradientExchange(ParameterArena& parameters, const RankPlan& plan)
    : parameters_(parameters),
      plan_(plan),
      span_(shard_span(*plan.communicator, plan.shards)),
      buckets_(cut_buckets(parameters, span_, plan.bucket_bytes)),
      missing_(buckets_.size()) {
  int64_t place = 0;
  for (const auto& bucket : buckets_) {
    owned_.push_back(bucket.part_of(plan.communicator->rank(), span_));
    places_.push_back(place);
    place += owned_.back().size();
  }
  order_.resize(buckets_.size());
  // Until the first pass has shown its order: from the arena's end, where the last blocks lie, but
  // vectors, which complete throughout, last.
  std::iota(order_.rbegin(), order_.rend(), size_t{0});
  std::stable_partition(order_.begin(), order_.end(),
                        [&](size_t bucket) { return buckets_[bucket].matrices; });
  if (plan_.communicator->world() == 1) return;
  sums_ = at::empty({place}, parameters_.grad().options());
  const auto leaves = static_cast<int64_t>(parameters_.leaves().size());
  for (int64_t i = 0; i < leaves; ++i) {
    const auto holds = [&](const ArenaBucket& b) { return b.first_leaf <= i && i < b.end_leaf; };
    const auto first = std::find_if(buckets_.begin(), buckets_.end(), holds);
    const auto end = std::find_if_not(first, buckets_.end(), holds);
    leaf_buckets_.emplace_back(first - buckets_.begin(), end - buckets_.begin());
    torch::autograd::impl::set_post_acc_grad_hooks(parameters_.leaf(i),
                                                   std::make_unique<LeafHook>(*this, i));
  }
}

GradientExchange::~GradientExchange() {
  if (plan_.communicator->world() == 1) return;
  for (size_t i = 0; i < parameters_.leaves().size(); ++i) {
    torch::autograd::impl::set_post_acc_grad_hooks(parameters_.leaf(static_cast<int64_t>(i)),
                                                   nullptr);
  }
}

void GradientExchange::expect_last_backward() {
  if (plan_.communicator->world() == 1) return;
  armed_ = true;
  completed_.clear();
  for (size_t b = 0; b < buckets_.size(); ++b) {
    missing_[b] = buckets_[b].end_leaf - buckets_[b].first_leaf;
  }
}

void GradientExchange::leaf_done(int64_t leaf) {
  if (!armed_) return;
  const auto [first, end] = leaf_buckets_[static_cast<size_t>(leaf)];
  for (size_t bucket = end; bucket-- > first;) {
    if (--missing_[bucket] == 0) completed_.push_back(bucket);
  }
  while (next_ < order_.size() && missing_[order_[next_]] == 0) leave(order_[next_++]);
}

void GradientExchange::end_shard() {
  if (tree_.parts() + 1 == span_.count()) return;  // the last one stays where it is
  tree_.push(parameters_.grad());
  parameters_.zero_grad();
}

void GradientExchange::leave(size_t index) {
  const at::NoGradGuard no_grad;
  const auto& bucket = buckets_[index];
  const int64_t size = bucket.end - bucket.begin;
  const auto& grad = parameters_.grad();
  tree_.fold(grad, bucket.begin, size);
  const auto mine = grad.narrow(0, bucket.begin, size);
  finite_ = finite_ && std::isfinite(kernels::grad_norm(mine).item<double>());
  if (flights_.size() == kMostUnderWay) land();
  Flight flight;
  flight.bucket = index;
  flight.sent = at::empty({plan_.communicator->world() * bucket.part(span_)}, grad.options());
  flight.sent.narrow(0, 0, size).copy_(mine);
  flight.sent.narrow(0, size, flight.sent.numel() - size).zero_();
  flight.received = at::empty_like(flight.sent);
  if (plan_.zero >= 2) parameters_.release_grad(bucket.begin, bucket.end);
  flight.pending = plan_.communicator->all_to_all(flight.received, flight.sent, "gradients");
  flights_.push_back(std::move(flight));
}

void GradientExchange::land() {
  const at::NoGradGuard no_grad;
  Flight flight = std::move(flights_.front());
  flights_.pop_front();
  {
    const Stopwatch watch(waited_);
    flight.pending.wait();
  }
  const auto& own = owned_[flight.bucket];
  if (own.size() == 0) return;
  const auto parts = flight.received.view({plan_.communicator->world(), -1});
  tree_sum_(parts);
  sums_.narrow(0, places_[flight.bucket], own.size()).copy_(parts[0].narrow(0, 0, own.size()));
}

void GradientExchange::finish() {
  if (plan_.communicator->world() == 1) {
    tree_.fold(parameters_.grad(), 0, parameters_.grad().numel());
    tree_.clear();
    return;
  }
  armed_ = false;
  while (next_ < order_.size()) leave(order_[next_++]);
  while (!flights_.empty()) land();
  next_ = 0;
  tree_.clear();
  if (!order_agreed_) agree_on_order();
}

/// The order of rank 0's first pass; buckets that it did not complete come last.
void GradientExchange::agree_on_order() {
  for (const size_t bucket : order_) {
    if (std::find(completed_.begin(), completed_.end(), bucket) == completed_.end()) {
      completed_.push_back(bucket);
    }
  }
  auto order =
      at::empty({static_cast<int64_t>(order_.size())}, at::TensorOptions().dtype(at::kLong));
  std::copy(completed_.begin(), completed_.end(), order.mutable_data_ptr<int64_t>());
  plan_.communicator->broadcast(order, 0, "order of gradients").wait();
  std::copy_n(order.const_data_ptr<int64_t>(), order_.size(), order_.begin());
  order_agreed_ = true;
}

at::Tensor GradientExchange::sum_of(size_t bucket) const {
  const auto& own = owned_[bucket];
  if (plan_.communicator->world() == 1) return parameters_.grad().narrow(0, own.begin, own.size());
  return sums_.narrow(0, places_[bucket], own.size());
}

std::vector<double> GradientExchange::grain_squares() const {
  std::vector<double> squares;
  for (size_t b = 0; b < buckets_.size(); ++b) {
    const auto sum = sum_of(b);
    for (int64_t g = 0; g < span_.count(); ++g) {
      const int64_t begin = std::min(sum.numel(), g * buckets_[b].grain);
      const int64_t size = std::min(sum.numel() - begin, buckets_[b].grain);
      const double norm =
          size == 0 ? 0.0 : kernels::grad_norm(sum.narrow(0, begin, size)).item<double>();
      squares.push_back(norm * norm);
    }
  }
  return squares;
}

double GradientExchange::total_square(const std::vector<std::vector<double>>& by_rank) const {
  double total = 0;
  const auto grains = static_cast<size_t>(span_.count());
  for (size_t b = 0; b < buckets_.size(); ++b) {
    for (const auto& squares : by_rank) {
      for (size_t g = 0; g < grains; ++g) total += squares[b * grains + g];
    }
  }
  return total;
}

void GradientExchange::gather_sums() { gather_sums(0, buckets_.size()); }

void GradientExchange::gather_sums(size_t first_bucket, size_t end_bucket) {
  if (plan_.communicator->world() == 1) return;
  const at::NoGradGuard no_grad;
  const auto& grad = parameters_.grad();
  const auto arrive = [&] {
    Flight flight = std::move(flights_.front());
    flights_.pop_front();
    {
      const Stopwatch watch(waited_);
      flight.pending.wait();
    }
    const auto& bucket = buckets_[flight.bucket];
    grad.narrow(0, bucket.begin, bucket.size()).copy_(flight.received.narrow(0, 0, bucket.size()));
  };
  for (size_t b = first_bucket; b < end_bucket; ++b) {
    if (flights_.size() == kMostUnderWay) arrive();
    Flight flight;
    flight.bucket = b;
    flight.sent = at::zeros({buckets_[b].part(span_)}, grad.options());
    flight.sent.narrow(0, 0, owned_[b].size()).copy_(sum_of(b));
    flight.received =
        at::empty({plan_.communicator->world() * flight.sent.numel()}, grad.options());
    flight.pending =
        plan_.communicator->all_gather(flight.received, flight.sent, "summed gradients");
    flights_.push_back(std::move(flight));
  }
  while (!flights_.empty()) arrive();
}

double GradientExchange::waited() { return std::exchange(waited_, 0.0); }

}  // namespace hone::engine
