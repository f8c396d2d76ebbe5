#include "engine/distributed/communicator.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <atomic>
#include <cstring>

namespace hone::engine {
namespace {

std::atomic<int64_t> dropped_handles{0};

/// Nothing to say to nobody: outputs are copies of inputs.
class WorldOfOne : public Communicator {
 public:
  int64_t rank() const override { return 0; }
  int64_t world() const override { return 1; }
  Pending all_reduce(const at::Tensor&, Reduction, const char*) override { return {}; }
  Pending reduce_scatter(const at::Tensor& output, const at::Tensor& input, const char*) override {
    return copy(output, input);
  }
  Pending all_gather(const at::Tensor& output, const at::Tensor& input, const char*) override {
    return copy(output, input);
  }
  Pending broadcast(const at::Tensor&, int64_t, const char*) override { return {}; }
  Pending all_to_all(const at::Tensor& output, const at::Tensor& input, const char*) override {
    return copy(output, input);
  }
  void barrier(const char*, bool) override {}
  std::unique_ptr<Communicator> duplicate(const std::string&) override {
    return std::make_unique<WorldOfOne>();
  }

 private:
  static Pending copy(const at::Tensor& output, const at::Tensor& input) {
    const at::NoGradGuard no_grad;
    if (output.data_ptr() != input.data_ptr()) output.copy_(input.view(output.sizes()));
    return {};
  }
};

at::Tensor bytes_tensor(int64_t size) {
  return at::empty({size}, at::TensorOptions().dtype(at::kByte));
}

}  // namespace

Pending& Pending::operator=(Pending&& other) noexcept {
  Pending old(std::move(*this));
  work_ = std::move(other.work_);
  return *this;
}

Pending::~Pending() {
  if (!work_) return;
  ++dropped_handles;
  try {
    wait();
  } catch (...) {  // the next collective fails again, where it can be said
  }
}

void Pending::wait() {
  if (const auto work = std::move(work_)) work->wait();
}

int64_t Pending::dropped() { return dropped_handles; }

Communicator& world_of_one() {
  static WorldOfOne world;
  return world;
}

std::vector<std::string> all_gather_bytes(Communicator& communicator, const std::string& bytes,
                                          const char* what) {
  const int64_t world = communicator.world();
  if (world == 1) return {bytes};
  auto size = at::full({1}, static_cast<int64_t>(bytes.size()), at::kLong);
  auto sizes = at::empty({world}, size.options());
  communicator.all_gather(sizes, size, what).wait();
  const auto* length = sizes.const_data_ptr<int64_t>();
  const int64_t longest = *std::max_element(length, length + world);
  std::vector<std::string> all(static_cast<size_t>(world));
  if (longest == 0) return all;
  auto mine = bytes_tensor(longest), everyone = bytes_tensor(world * longest);
  std::memcpy(mine.mutable_data_ptr<uint8_t>(), bytes.data(), bytes.size());
  communicator.all_gather(everyone, mine, what).wait();
  const auto* text = reinterpret_cast<const char*>(everyone.const_data_ptr<uint8_t>());
  for (int64_t r = 0; r < world; ++r) {
    all[static_cast<size_t>(r)].assign(text + r * longest, static_cast<size_t>(length[r]));
  }
  return all;
}

std::string broadcast_bytes(Communicator& communicator, const std::string& bytes, int64_t root,
                            const char* what) {
  if (communicator.world() == 1) return bytes;
  auto size = at::full({1}, static_cast<int64_t>(bytes.size()), at::kLong);
  communicator.broadcast(size, root, what).wait();
  const auto length = size.item<int64_t>();
  if (length == 0) return {};
  auto text = bytes_tensor(length);
  if (communicator.rank() == root) {
    std::memcpy(text.mutable_data_ptr<uint8_t>(), bytes.data(), bytes.size());
  }
  communicator.broadcast(text, root, what).wait();
  return {reinterpret_cast<const char*>(text.const_data_ptr<uint8_t>()),
          static_cast<size_t>(length)};
}

bool any_rank(Communicator& communicator, bool mine, const char* what) {
  auto flag = at::full({1}, static_cast<int64_t>(mine), at::kLong);
  communicator.all_reduce(flag, Reduction::kMax, what).wait();
  return flag.item<int64_t>() != 0;
}

}  // namespace hone::engine
