#include "data/journal/group_commit.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "data/error.h"

namespace hone::data {

GroupCommit::GroupCommit(sqlite::Database database)
    : database_(std::move(database)), log_path_(database_.name() + "-wal") {
  log_ = open_file(log_path_, O_RDWR);
  sync_file(log_, log_path_);
  sync_directory(log_path_.parent_path());
  // Commits write; fdatasync is ours. Checkpoints, which stop everybody for some fsyncs, come after
  // 32 MB of log instead of 4, that is after a thousand answers.
  database_.execute("PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=8000");
  writer_ = std::thread([this] { write_loop(); });
  syncer_ = std::thread([this] { sync_loop(); });
}

GroupCommit::~GroupCommit() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  arrived_.notify_all();
  writer_.join();
  {
    const std::lock_guard lock(mutex_);
    writer_stopped_ = true;
  }
  committed_.notify_all();
  syncer_.join();
}

void GroupCommit::run(const Work& work, Durability durability) {
  Task task;
  task.work = &work;
  task.fsync = durability == Durability::kFsync;
  submit(task);
}

void GroupCommit::run_alone(const Work& work) {
  Task task;
  task.work = &work;
  task.alone = true;
  submit(task);
}

void GroupCommit::submit(Task& task) {
  std::unique_lock lock(mutex_);
  waiting_.push_back(&task);
  arrived_.notify_one();
  task.finished.wait(lock, [&] { return task.done; });
  lock.unlock();
  if (task.error) std::rethrow_exception(task.error);
}

void GroupCommit::finish(Task& task) {
  task.done = true;
  task.finished.notify_one();
}

void GroupCommit::write_loop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    arrived_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    std::deque<Task*> batch;
    do {
      batch.push_back(waiting_.front());
      waiting_.pop_front();
    } while (!batch.back()->alone && !waiting_.empty() && !waiting_.front()->alone);
    lock.unlock();
    commit_batch(batch);
    lock.lock();
    for (Task* task : batch) {
      if (task->fsync && !task->error) {
        to_sync_.push_back(task);
      } else {
        finish(*task);
      }
    }
    if (!to_sync_.empty()) committed_.notify_one();
  }
}

void GroupCommit::sync_loop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    committed_.wait(lock, [this] { return writer_stopped_ || !to_sync_.empty(); });
    if (to_sync_.empty()) return;
    std::deque<Task*> batch;
    batch.swap(to_sync_);
    const bool was_broken = broken_;
    lock.unlock();
    std::exception_ptr error;
    try {
      if (was_broken) {
        throw IoError(log_path_.string(), "fdatasync", "success", "a failure before this one");
      }
      if (::fdatasync(log_.get()) != 0) throw_errno(log_path_, "fdatasync");
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    if (error) broken_ = true;
    for (Task* task : batch) {
      task->error = error;
      finish(*task);
    }
  }
}

/// After a failed fdatasync: everything in the log goes into the database, which is fsynced.
void GroupCommit::repair() {
  {
    const std::lock_guard lock(mutex_);
    if (!broken_) return;
  }
  database_.execute("PRAGMA synchronous=FULL");
  database_.checkpoint();
  database_.execute("PRAGMA synchronous=NORMAL");
  const std::lock_guard lock(mutex_);
  broken_ = false;
}

/// Whether the disk could take all pages of the log once more, as it must before the log can be
/// emptied: a log that has filled the disk would be stuck for ever.
bool GroupCommit::is_room_for_log() const {
  constexpr uint64_t kSmall = 256 << 10;
  struct stat log {};
  struct statvfs disk {};
  if (::fstat(log_.get(), &log) != 0 || ::fstatvfs(log_.get(), &disk) != 0) return true;
  const auto bytes = static_cast<uint64_t>(log.st_size);
  return bytes <= kSmall || 2 * bytes <= uint64_t{disk.f_bavail} * disk.f_frsize;
}

/// The log's pages go to their places in the database, many of which are there already, and the log
/// becomes empty. Waits for no reader. Where it fails, the next batch tries again.
void GroupCommit::make_room() {
  try {
    database_.execute("PRAGMA busy_timeout=0");
    database_.checkpoint();
  } catch (const Error&) {  // nothing is lost by it
  }
  database_.execute("PRAGMA busy_timeout=" + std::to_string(sqlite::OpenOptions{}.busy_ms));
}

void GroupCommit::give_error(const std::deque<Task*>& batch, const std::exception_ptr& error) {
  for (Task* task : batch) {
    if (!task->error) task->error = error;
  }
}

void GroupCommit::commit_batch(std::deque<Task*>& batch) {
  bool disk_failed = false;
  try {
    repair();
    if (batch.front()->alone) return (*batch.front()->work)(database_);
    sqlite::Transaction transaction(database_);
    for (Task* task : batch) {
      try {
        sqlite::Savepoint part(database_);
        (*task->work)(database_);
        part.release();
      } catch (const IoError&) {
        disk_failed = true;
        task->error = std::current_exception();
        if (!database_.in_transaction()) throw;
      } catch (...) {
        task->error = std::current_exception();
        // A full disk or the like ends the whole transaction, and what came before with it.
        if (!database_.in_transaction()) throw;
      }
    }
    transaction.commit();
  } catch (const IoError&) {
    disk_failed = true;
    give_error(batch, std::current_exception());
  } catch (...) {
    give_error(batch, std::current_exception());
  }
  if (disk_failed || !is_room_for_log()) make_room();
}

}  // namespace hone::data
