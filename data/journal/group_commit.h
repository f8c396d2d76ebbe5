#pragma once

// One thread that writes. Callers hand in a piece of work and wait; what waits at one time becomes
// one transaction with one fsync, each piece in a savepoint of its own, so that one that throws
// takes no other with it.

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "data/sqlite/database.h"

namespace hone::data {

class GroupCommit {
 public:
  enum class Durability {
    kFsync,   // survives loss of power: for what is acknowledged to people
    kProcess  // survives the process: written, not fsynced; the next fsync takes it along
  };
  using Work = std::function<void(sqlite::Database&)>;

  explicit GroupCommit(sqlite::Database database);
  GroupCommit(const GroupCommit&) = delete;
  ~GroupCommit();  // finishes what waits

  /// Runs `work` in a transaction; returns when it is committed. Throws what `work` threw, or the
  /// error of the transaction: then it did not happen.
  void run(const Work& work, Durability durability = Durability::kFsync);

  /// Runs `work` alone, outside any transaction (VACUUM, checkpoints).
  void run_alone(const Work& work);

 private:
  struct Task {
    const Work* work = nullptr;
    bool alone = false, fsync = true;
    bool done = false;
    std::exception_ptr error;
    std::condition_variable finished;  // its own: a batch wakes nobody else
  };
  void submit(Task& task);
  void loop();
  void commit_batch(std::deque<Task*>& batch);
  void set_fsync(bool on);

  sqlite::Database database_;
  bool fsync_ = true;
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<Task*> waiting_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace hone::data
