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

  /// `store` for this thread alone. `silence`: a rank that has not counted for so long is lost.
  Watch(c10::intrusive_ptr<c10d::Store> store, int64_t rank, int64_t world,
        std::chrono::milliseconds silence);
  /// Stops counting. Does not throw.
  ~Watch();
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  void set_silence(std::chrono::milliseconds silence) { silence_ = silence; }
  std::chrono::milliseconds silence() const { return silence_; }

  /// The first failure of any rank, once this one has heard of it.
  std::optional<Failure> failure() const;
  /// Says that this rank fails (or has found another lost); the first one that was said holds on
  /// every rank, and is returned.
  Failure fail(const Failure& mine);
  /// Ranks that stop counting while this looks (a few beats long).
  std::vector<int64_t> lost_ranks();

 private:
  void run();
  void look();
  void hear(const Failure& failure);
  std::string beat_key(int64_t rank) const { return "beat/" + std::to_string(rank); }

  c10::intrusive_ptr<c10d::Store> store_, speaking_;
  int64_t rank_, world_;
  std::atomic<std::chrono::milliseconds> silence_;
  mutable std::mutex mutex_;
  std::optional<Failure> failure_;
  std::atomic<bool> closing_{false};
  struct Heard {
    int64_t count = 0;
    std::chrono::steady_clock::time_point when;
  };
  std::vector<Heard> heard_;
  std::thread thread_;
};

}  // namespace hone::engine
