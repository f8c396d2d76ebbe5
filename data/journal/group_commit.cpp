#include "data/journal/group_commit.h"

#include <utility>

namespace hone::data {

GroupCommit::GroupCommit(sqlite::Database database)
    : database_(std::move(database)), thread_([this] { loop(); }) {}

GroupCommit::~GroupCommit() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  arrived_.notify_all();
  thread_.join();
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

void GroupCommit::loop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    arrived_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    std::deque<Task*> batch;
    if (waiting_.front()->alone) {
      batch.push_back(waiting_.front());
      waiting_.pop_front();
    } else {
      while (!waiting_.empty() && !waiting_.front()->alone) {
        batch.push_back(waiting_.front());
        waiting_.pop_front();
      }
    }
    lock.unlock();
    if (batch.front()->alone) {
      try {
        set_fsync(true);
        (*batch.front()->work)(database_);
      } catch (...) {
        batch.front()->error = std::current_exception();
      }
    } else {
      commit_batch(batch);
    }
    lock.lock();
    for (Task* task : batch) {
      task->done = true;
      task->finished.notify_one();  // under the lock: the task lives on its caller's stack
    }
  }
}

void GroupCommit::set_fsync(bool on) {
  if (fsync_ == on) return;
  database_.execute(on ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL");
  fsync_ = on;
}

void GroupCommit::commit_batch(std::deque<Task*>& batch) {
  try {
    bool fsync = false;
    for (const Task* task : batch) fsync = fsync || task->fsync;
    set_fsync(fsync);
    sqlite::Transaction transaction(database_);
    for (Task* task : batch) {
      try {
        sqlite::Savepoint part(database_);
        (*task->work)(database_);
        part.release();
      } catch (...) {
        task->error = std::current_exception();
        // A full disk or the like ends the whole transaction, and what came before with it.
        if (!database_.in_transaction()) throw;
      }
    }
    transaction.commit();
  } catch (...) {
    for (Task* task : batch) {
      if (!task->error) task->error = std::current_exception();
    }
  }
}

}  // namespace hone::data
