#include "engine/distributed/shard_tree.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <bit>
#include <string>
#include <utility>

#include "data/error.h"

namespace hone::engine {
namespace {

void sum_into_first(const at::Tensor& parts, int64_t begin, int64_t end) {
  const int64_t n = end - begin;
  if (n < 2) return;
  const int64_t middle = begin + static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(n - 1)));
  sum_into_first(parts, begin, middle);
  sum_into_first(parts, middle, end);
  parts.select(0, begin).add_(parts.select(0, middle));
}

}  // namespace

ShardSpan shard_span(const Communicator& communicator, int64_t shards) {
  const int64_t world = communicator.world();
  const int64_t each = shards / world;
  if (shards < 1 || shards % world != 0 ||
      (world > 1 && !std::has_single_bit(static_cast<uint64_t>(each)))) {
    throw data::InputError("ranks", "shards",
                           "a multiple of the " + std::to_string(world) +
                               " ranks, a power of two for each (0 = one for each)",
                           std::to_string(shards));
  }
  return {shards, communicator.rank() * each, (communicator.rank() + 1) * each};
}

void TreeSum::push(const at::Tensor& values) {
  const at::NoGradGuard no_grad;
  for (int64_t place = parts_++; place & 1; place >>= 1) {
    values.add_(held_.back());
    spare_.push_back(std::move(held_.back()));
    held_.pop_back();
  }
  if (spare_.empty()) spare_.push_back(at::empty(values.sizes(), values.options()));
  held_.push_back(std::move(spare_.back()));
  spare_.pop_back();
  held_.back().copy_(values);
}

void TreeSum::fold(const at::Tensor& values, int64_t begin, int64_t size) const {
  const at::NoGradGuard no_grad;
  for (auto part = held_.rbegin(); part != held_.rend(); ++part) {
    values.narrow(0, begin, size).add_(part->narrow(0, begin, size));
  }
}

void TreeSum::clear() {
  for (auto& part : held_) spare_.push_back(std::move(part));
  held_.clear();
  parts_ = 0;
}

void tree_sum_(const at::Tensor& parts) {
  const at::NoGradGuard no_grad;
  sum_into_first(parts, 0, parts.size(0));
}

void share_disjoint(Communicator& communicator, const at::Tensor& values, const char* what) {
  if (communicator.world() == 1) return;
  // As integers, whose sums with zero change no bit: -0.0 stays.
  const auto type = values.element_size() == 8 ? at::kLong : at::kInt;
  communicator.all_reduce(values.view(type), Reduction::kSum, what).wait();
}

std::vector<double> gather_shards(Communicator& communicator, const std::vector<double>& mine,
                                  const char* what) {
  if (communicator.world() == 1) return mine;
  // Tensors own what they hold: when the wait throws, the transport may still write into it.
  const auto count = static_cast<int64_t>(mine.size());
  auto sent = at::empty({count}, at::kDouble);
  auto received = at::empty({count * communicator.world()}, at::kDouble);
  std::copy(mine.begin(), mine.end(), sent.mutable_data_ptr<double>());
  communicator.all_gather(received, sent, what).wait();
  const auto* all = received.const_data_ptr<double>();
  return {all, all + received.numel()};
}

}  // namespace hone::engine
