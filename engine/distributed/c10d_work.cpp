#include "engine/distributed/c10d_work.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "engine/distributed/meeting.h"
#include "engine/distributed/shard_tree.h"

namespace hone::engine {
namespace {

using Clock = std::chrono::steady_clock;

// A collective is looked at again after pauses that grow: short ones cost little, long ones may.
constexpr auto kFirstPause = std::chrono::microseconds(20),
               kLastPause = std::chrono::microseconds(1000);

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

class C10dWork : public Pending::Work {
 public:
  C10dWork(std::shared_ptr<Shared> shared, c10::intrusive_ptr<c10d::Work> work, std::string what,
           bool patient)
      : shared_(std::move(shared)),
        work_(std::move(work)),
        what_(std::move(what)),
        patient_(patient) {}

  void wait() override {
    const auto begin = Clock::now();
    for (auto pause = kFirstPause;; pause = std::min(2 * pause, kLastPause)) {
      if (shared_->broken) shared_->stop(*shared_->watch->failure(), what_);
      if (work_->isCompleted()) {
        try {
          work_->wait();
          return;
        } catch (const std::exception& error) {
          connection_lost(*shared_, what_, error.what());
        }
      }
      std::this_thread::sleep_for(pause);
      check_patience(*shared_, patient_ ? Clock::now() : begin, what_);
    }
  }

 private:
  std::shared_ptr<Shared> shared_;
  c10::intrusive_ptr<c10d::Work> work_;
  std::string what_;
  bool patient_;
};

/// Every rank's part has come: adds them up.
class SummedWork : public Pending::Work {
 public:
  SummedWork(Pending exchange, at::Tensor parts, at::Tensor output, int64_t world)
      : exchange_(std::move(exchange)),
        parts_(std::move(parts)),
        output_(std::move(output)),
        world_(world) {}
  void wait() override {
    exchange_.wait();
    const at::NoGradGuard no_grad;
    const auto parts = parts_.view({world_, -1});
    tree_sum_(parts);
    output_.copy_(parts[0].view(output_.sizes()));
  }

 private:
  Pending exchange_;
  at::Tensor parts_, output_;
  int64_t world_;
};

}  // namespace

/// The library says which connection broke, not which rank is gone: that shows by who is silent.
void connection_lost(Shared& shared, const std::string& what, const std::string& error) {
  for (int look = 0; look < 5; ++look) {
    if (const auto failure = shared.watch->failure()) shared.stop(*failure, what);
    const auto lost = shared.watch->lost_ranks();
    if (!lost.empty()) {
      int64_t speaker = 0;
      while (std::find(lost.begin(), lost.end(), speaker) != lost.end()) ++speaker;
      shared.stop(
          shared.watch->fail({1, rank_list(lost) + (lost.size() == 1 ? " has died" : " have died"),
                              true, speaker}),
          what);
    }
  }
  shared.stop(shared.watch->fail({1,
                                  "rank " + std::to_string(shared.rank) +
                                      " lost a connection in collective '" + what +
                                      "': " + first_line(error),
                                  false}),
              what);
}

void check_patience(Shared& shared, Clock::time_point begin, const std::string& what) {
  if (const auto failure = shared.watch->failure()) shared.stop(*failure, what);
  const auto limit = shared.limits.collective;
  if (Clock::now() - begin <= limit) return;
  shared.stop(shared.watch->fail(
                  {1,
                   "rank " + std::to_string(shared.rank) + " waited for the others longer than " +
                       std::to_string(limit.count() / 1000) + " s in collective '" + what + "'",
                   false}),
              what);
}

Pending pending_work(std::shared_ptr<Shared> shared, c10::intrusive_ptr<c10d::Work> work,
                     const char* what, bool patient) {
  return Pending(std::make_unique<C10dWork>(std::move(shared), std::move(work), what, patient));
}

Pending pending_sum(Pending exchange, const at::Tensor& parts, const at::Tensor& output,
                    int64_t world) {
  return Pending(std::make_unique<SummedWork>(std::move(exchange), parts, output, world));
}

}  // namespace hone::engine
