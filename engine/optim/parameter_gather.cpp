#include "engine/optim/parameter_gather.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/optim/stopwatch.h"

namespace hone::engine {
namespace {

constexpr size_t kMostUnderWay = 8;  // buckets whose buffers live at once

/// Where elements of an arena lie. Through the pointer, because a write through the tensor would
/// tell autograd that a weight has changed which only has come back.
std::byte* address(const at::Tensor& arena, int64_t element) {
  return static_cast<std::byte*>(arena.data_ptr()) +
         static_cast<size_t>(element) * arena.element_size();
}

}  // namespace

ParameterGather::ParameterGather(ParameterArena& parameters, const RankPlan& plan, bool in_parts)
    : parameters_(parameters),
      communicator_(plan.communicator->duplicate("parameters")),
      span_(shard_span(*plan.communicator, plan.shards)),
      buckets_(cut_buckets(parameters, span_, plan.bucket_bytes)),
      parts_(in_parts),
      here_(buckets_.size(), 1) {
  for (const auto& bucket : buckets_) {
    owned_.push_back(bucket.part_of(communicator_->rank(), span_));
    blocks_ = std::max(blocks_, bucket.end_block);
  }
  if (parts_) hold_parts();
  parameters_.set_keeper(this);
}

void keep_own_part(ParameterArena& parameters, const RankPlan& plan) {
  if (plan.communicator->world() > 1) ParameterGather(parameters, plan, /*in_parts=*/true);
}

ParameterGather::~ParameterGather() { parameters_.set_keeper(nullptr); }

double ParameterGather::waited() { return std::exchange(waited_, 0.0); }

bool ParameterGather::of_block(size_t bucket, int64_t block) const {
  const auto& b = buckets_[bucket];
  return b.first_block >= 0 && b.first_block <= block && block < b.end_block;
}

bool ParameterGather::under_way(size_t bucket) const {
  return std::any_of(flights_.begin(), flights_.end(),
                     [&](const Flight& flight) { return flight.bucket == bucket; });
}

void ParameterGather::send(size_t index) {
  const at::NoGradGuard no_grad;
  const auto& bucket = buckets_[index];
  const auto& own = owned_[index];
  const auto options = parameters_.data().options();
  Flight flight;
  flight.bucket = index;
  const auto mine = parameters_.data().detach().narrow(0, own.begin, own.size());
  if (own.size() == bucket.part(span_)) {
    flight.sent = mine;
  } else {
    flight.sent = at::zeros({bucket.part(span_)}, options);
    flight.sent.narrow(0, 0, own.size()).copy_(mine);
  }
  flight.received = at::empty({communicator_->world() * bucket.part(span_)}, options);
  flight.pending = communicator_->all_gather(flight.received, flight.sent, "parameters");
  flights_.push_back(std::move(flight));
}

void ParameterGather::land() {
  Flight flight = std::move(flights_.front());
  flights_.pop_front();
  {
    const Stopwatch watch(waited_);
    flight.pending.wait();
  }
  here_[flight.bucket] = 1;
  if (!following_) {
    // Around this rank's own part, which a checkpoint may be reading.
    const auto& bucket = buckets_[flight.bucket];
    const auto& own = owned_[flight.bucket];
    for (const auto& [from, to] :
         {std::pair(bucket.begin, own.begin), std::pair(own.end, bucket.end)}) {
      if (from >= to) continue;
      const auto size = static_cast<size_t>(to - from) * flight.received.element_size();
      if (parameters_.data().is_cpu()) {
        std::memcpy(address(parameters_.data(), from),
                    address(flight.received, from - bucket.begin), size);
      } else {
        parameters_.data()
            .detach()
            .narrow(0, from, to - from)
            .copy_(flight.received.narrow(0, from - bucket.begin, to - from));
      }
    }
  }
  send_waiting();
}

void ParameterGather::send_waiting() {
  while (!waiting_.empty() && flights_.size() < kMostUnderWay) {
    send(waiting_.front());
    waiting_.pop_front();
  }
}

void ParameterGather::land_all() {
  while (!flights_.empty()) land();
}

void ParameterGather::release(size_t index) {
  here_[index] = 0;
  if (following_) return;
  const auto& bucket = buckets_[index];
  const auto& own = owned_[index];
  if (own.begin > bucket.begin) parameters_.release_data(bucket.begin, own.begin);
  if (own.end < bucket.end) parameters_.release_data(own.end, bucket.end);
}

void ParameterGather::send_changes(bool blocks_too) {
  land_all();
  // In the order of a forward pass, which needs what lies outside the blocks first.
  for (const bool of_blocks : {false, true}) {
    for (size_t b = 0; b < buckets_.size(); ++b) {
      if ((buckets_[b].first_block >= 0) != of_blocks) continue;
      if (of_blocks && (parts_ || !blocks_too)) continue;
      here_[b] = 0;
      waiting_.push_back(b);
    }
  }
  send_waiting();
}

void ParameterGather::hold_whole() {
  meet();
  whole_ = true;
  for (size_t b = 0; b < buckets_.size(); ++b) {
    if (!is_here(b)) waiting_.push_back(b);
  }
  send_waiting();
  land_all();
}

void ParameterGather::hold_parts() {
  land_all();
  whole_ = false;
  for (size_t b = 0; b < buckets_.size(); ++b) {
    if (buckets_[b].first_block >= 0) release(b);
  }
}

std::pair<ParameterGather::Round, bool> ParameterGather::agree(Round mine) {
  const Stopwatch watch(waited_);
  const auto world = communicator_->world();
  auto own = at::empty({1}, at::kLong), all = at::empty({world}, at::kLong);
  *own.mutable_data_ptr<int64_t>() = mine;
  communicator_->all_gather(all, own, "turns of passes").wait();
  const auto* asked = all.const_data_ptr<int64_t>();
  const auto [first, last] = std::minmax_element(asked, asked + world);
  return {static_cast<Round>(*first), *first == *last};
}

/// Goes along with others' passes until it is this rank's turn. Returns whether it is everyone's.
bool ParameterGather::take_turn(Round mine) {
  land_all();
  for (;;) {
    const auto [next, everyone] = agree(mine);
    if (next == mine) return everyone;
    follow(next);
  }
}

void ParameterGather::follow(Round round) {
  following_ = true;
  step_ = round == kForward ? 1 : -1;
  for (int64_t i = 0; i < blocks_; ++i) enter(round == kForward ? i : blocks_ - 1 - i);
  end();
  following_ = false;
}

void ParameterGather::begin(Pass pass) {
  if (in_parts() && !std::exchange(announced_, false)) {
    take_turn(pass == Pass::kForward ? kForward : kBackward);
  }
  step_ = pass == Pass::kForward ? 1 : -1;
  const auto outside_blocks = [&](size_t b) { return buckets_[b].first_block < 0; };
  const auto missing = [&] {
    return std::any_of(flights_.begin(), flights_.end(),
                       [&](const Flight& flight) { return outside_blocks(flight.bucket); });
  };
  while (missing()) land();
}

bool ParameterGather::begin_last_backward() {
  if (!in_parts()) return true;
  announced_ = true;
  return take_turn(kLastBackward);
}

void ParameterGather::enter(int64_t block) {
  if (!in_parts()) {
    if (flights_.empty()) return;
    for (size_t b = 0; b < buckets_.size(); ++b) {
      while (of_block(b, block) && !is_here(b)) land();
    }
    return;
  }
  const int64_t next = block + step_;
  for (size_t b = 0; b < buckets_.size(); ++b) {
    if (is_here(b) && buckets_[b].first_block >= 0 && !of_block(b, block)) release(b);
  }
  for (size_t b = 0; b < buckets_.size(); ++b) {
    if (of_block(b, block) && !is_here(b) && !under_way(b)) send(b);
  }
  land_all();
  for (size_t b = 0; b < buckets_.size(); ++b) {
    if (of_block(b, next) && !is_here(b)) send(b);
  }
}

void ParameterGather::end() {
  if (!in_parts()) return;
  land_all();
  for (size_t b = 0; b < buckets_.size(); ++b) {
    if (is_here(b) && buckets_[b].first_block >= 0) release(b);
  }
}

void ParameterGather::meet() {
  land_all();
  if (in_parts()) take_turn(kNone);
}

}  // namespace hone::engine
