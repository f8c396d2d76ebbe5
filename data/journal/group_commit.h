#pragma once

// Two threads that make changes durable. The first runs the pieces of work that wait, as one
// transaction, each in a savepoint of its own, so that one that throws takes no other with it. The
// second calls fdatasync on SQLite's log for everything committed until then. So a question is
// handed out while the disk is busy with others' answers, and all answers that arrive meanwhile
// share the next fdatasync.

#include <condition_variable>
#include <deque>
#include <exception>
#include <filesystem>
#include <functional>
#include <mutex>
#include <thread>

#include "data/file_descriptor.h"
#include "data/sqlite/database.h"

namespace hone::data {

class GroupCommit {
 public:
  enum class Durability {
    kFsync,   // survives loss of power: for what is acknowledged to people
    kProcess  // survives the process: written, not fsynced; the next fsync takes it along
  };
  using Work = std::function<void(sqlite::Database&)>;

  /// The database must have been written to, so that its log exists. IoError.
  explicit GroupCommit(sqlite::Database database);
  GroupCommit(const GroupCommit&) = delete;
  ~GroupCommit();  // finishes what waits

  /// Runs `work` in a transaction; returns when it is committed and as durable as asked. Throws
  /// what `work` threw, or the error of the transaction: then it did not happen. When fdatasync
  /// fails, it throws, too, and the change may yet be there: idempotency keys tell.
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
  void write_loop();
  void sync_loop();
  void commit_batch(std::deque<Task*>& batch);
  void repair();
  void make_room();
  bool is_room_for_log() const;
  static void give_error(const std::deque<Task*>& batch, const std::exception_ptr& error);
  void finish(Task& task);  // under the lock: the task lives on its caller's stack

  sqlite::Database database_;
  std::filesystem::path log_path_;
  FileDescriptor log_;
  std::mutex mutex_;
  std::condition_variable arrived_, committed_;
  std::deque<Task*> waiting_, to_sync_;
  // After a failed fdatasync the kernel may have dropped what it could not write: a later one that
  // succeeds says nothing. Nothing is acknowledged until the log has been copied into the database.
  bool broken_ = false;
  bool stopping_ = false, writer_stopped_ = false;
  std::thread writer_, syncer_;
};

}  // namespace hone::data
