#include "engine/trainers/lanes.h"

#include <ATen/Parallel.h>

#include <array>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "kernels/threads.h"

namespace hone::engine {

struct Lanes::Workers {
  explicit Workers(int threads_each) {
    for (auto& thread : threads) {
      thread = std::thread([this, threads_each] {
        at::internal::lazy_init_num_threads();  // parallel loops of this library
        kernels::set_thread_count(threads_each);
        work();
      });
    }
    std::unique_lock lock(mutex);
    changed.wait(lock, [this] { return ready == threads.size(); });
  }

  ~Workers() {
    {
      const std::lock_guard lock(mutex);
      closing = true;
    }
    changed.notify_all();
    for (auto& thread : threads) thread.join();
  }

  void work() {
    std::unique_lock lock(mutex);
    ++ready;
    changed.notify_all();
    for (;;) {
      changed.wait(lock, [this] { return closing || next < count(); });
      if (closing) return;
      const size_t task = next++;
      lock.unlock();
      try {
        (*tasks)[task]();
      } catch (...) {
        errors[task] = std::current_exception();
      }
      lock.lock();
      if (++done == count()) changed.notify_all();
    }
  }

  size_t count() const { return tasks ? tasks->size() : 0; }

  std::mutex mutex;
  std::condition_variable changed;
  std::array<std::thread, 2> threads;
  const std::vector<std::function<void()>>* tasks = nullptr;
  std::vector<std::exception_ptr> errors;
  size_t ready = 0, next = 0, done = 0;
  bool closing = false;
};

Lanes::Lanes(bool enabled) {
  const int threads = at::get_num_threads();
  if (!enabled || threads < 2) return;
  workers_ = std::make_unique<Workers>(threads / 2);
  // The workers' setting is their own, but it is also the default of threads yet to start.
  at::set_num_threads(threads);
}

Lanes::~Lanes() = default;

void Lanes::run(const std::vector<std::function<void()>>& tasks) {
  if (!workers_) {
    for (const auto& task : tasks) task();
    return;
  }
  if (tasks.empty()) return;
  auto& w = *workers_;
  {
    std::unique_lock lock(w.mutex);
    w.errors.assign(tasks.size(), nullptr);
    w.next = w.done = 0;
    w.tasks = &tasks;
    w.changed.notify_all();
    w.changed.wait(lock, [&] { return w.done == tasks.size(); });
    w.tasks = nullptr;
  }
  for (const auto& error : w.errors) {
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace hone::engine
