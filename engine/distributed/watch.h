#pragma once

// Whether the other ranks live, and the first failure of any. Every rank counts up a number in the
// launcher's store, in a thread of its own; rank 0 watches all of them, the others watch rank 0.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <vector>

namespace hone::engine {

class Watch {
 public:
  struct Failure {
    int exit_code = 1;
    std::string message;
    bool lost = false;    // a rank has died or hangs: where that was noticed is worth saying
    int64_t speaker = 0;  // the lowest rank that lives
  };

  /// `store` is used by no other thread. `silence`: a rank that has not counted for so long is
  /// lost. Time that this process was not given (stopped, or on a starved machine) is not counted.
  Watch(c10::intrusive_ptr<c10d::Store> store, int64_t rank, int64_t world,
        std::chrono::milliseconds silence);
  /// Stops counting. Does not throw. Not to be destroyed once store_is_silent().
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  void set_silence(std::chrono::milliseconds silence) { silence_ = silence; }
  std::chrono::milliseconds silence() const { return silence_; }

  /// The first failure of any rank, once this one has heard of it. A store that has not answered
  /// for `silence`, while somebody asks here, is one: it is rank 0's, or its launcher's.
  std::optional<Failure> failure();
  bool store_is_silent() const { return silent_store_; }
  /// Says that this rank fails (or has found another lost); the first one that was said holds on
  /// every rank, and is returned.
  Failure fail(const Failure& mine);
  /// Other ranks that stop counting while this looks (a few beats long).
  std::vector<int64_t> lost_ranks();

 private:
  using Clock = std::chrono::steady_clock;
  void run();
  void look(Clock::duration passed);
  void hear(const Failure& failure);
  std::string beat_key(int64_t rank) const { return "beat/" + std::to_string(rank); }

  c10::intrusive_ptr<c10d::Store> store_, speaking_;
  int64_t rank_, world_;
  std::atomic<std::chrono::milliseconds> silence_;
  std::mutex mutex_;
  std::optional<Failure> failure_, mine_;  // mine_: to be said
  std::atomic<bool> closing_{false}, asking_{false}, silent_store_{false};
  std::atomic<int64_t> looks_{0};
  int64_t looks_seen_ = 0;  // when failure() was last asked, and for how long it has asked since:
  Clock::time_point asked_ = Clock::now();
  Clock::duration unanswered_{0};
  struct Heard {
    int64_t count = 0;
    Clock::duration silent{0};
  };
  std::vector<Heard> heard_;
  std::thread thread_;
};

}  // namespace hone::engine
