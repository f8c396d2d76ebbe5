#include "tests/support/fiber/grid.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "tests/support/fiber/fiber.h"
#include "tests/support/fiber/global_buffer.h"
#include "tests/support/fiber/shared_memory.h"

namespace hone::fiber {
namespace {

constexpr int kWarp = 32;

enum class State { kNew, kReady, kBarrier, kExchange, kPaused, kEnded };

struct Copy {
  size_t offset;
  const char* name;
  int group;
  unsigned char bytes[kCopyBytes];
};

struct Thread {
  ThreadId id;
  State state = State::kNew;
  void* context = nullptr;
  void* stack = nullptr;
  const char* primitive = "";  // where it waits or last waited
  Place place;
  unsigned exchanges = 0;
  std::vector<Copy> copies;  // under way
  int groups = 0;            // of copies, committed
};

struct Warp {
  uint32_t epoch = 0;
  Shown shown[2][kWarp];  // alternating, so that a fast lane does not overwrite what others read
};

struct Block {
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  SharedMemory shared;
  uint32_t epoch = 0;
  int64_t index = -1;
  int ended = 0;
};

class Grid {
 public:
  void run(int64_t blocks, int threads, size_t shared_bytes, const std::function<void()>& body);

  [[noreturn]] void fail(const std::string& message);
  /// Leaves the running fiber until the scheduler continues it.
  void leave(State state, const char* primitive, const Place& place);
  [[noreturn]] void end_thread();

  Thread* thread = nullptr;  // the running one
  Block* block = nullptr;
  const std::function<void()>* body = nullptr;

 private:
  void start(Block& b, int64_t index);
  void resume(Thread& t);
  bool step(Block& b);
  bool step_warp(Block& b, int warp);
  bool release_warp(Block& b, int warp);
  bool release_barrier(Block& b);
  [[noreturn]] void stuck(Block& b);

  StackPool stacks_;
  std::vector<std::unique_ptr<Block>> pool_;
  void* scheduler_ = nullptr;
  std::string failure_;
  size_t shared_bytes_ = 0;
  int64_t blocks_ = 0;
  int threads_ = 0;
  uint32_t epoch_ = 0;  // of all blocks ever: shared memory needs no clearing
};

Grid& grid() {
  static Grid only;
  return only;
}

void thread_main() {
  (*grid().body)();
  grid().end_thread();
}

void Grid::start(Block& b, int64_t index) {
  b.index = index;
  b.ended = 0;
  b.epoch = ++epoch_;
  b.threads.assign(threads_, Thread{});
  b.warps.resize(threads_ / kWarp);
  b.shared.start(shared_bytes_, b.epoch);
  for (int i = 0; i < threads_; ++i) b.threads[i].id = {i, threads_, index, blocks_};
}

void Grid::resume(Thread& t) {
  if (t.state == State::kNew) {
    t.stack = stacks_.take();
    t.context = prepare_context(t.stack, &thread_main);
  }
  t.state = State::kReady;
  thread = &t;
  hone_fiber_switch(&scheduler_, t.context);
  thread = nullptr;
  if (!failure_.empty()) throw KernelFault(std::exchange(failure_, {}));
  if (t.state == State::kEnded) {
    stacks_.give(t.stack);
    t.stack = nullptr;
  }
}

void Grid::leave(State state, const char* primitive, const Place& place) {
  thread->state = state;
  thread->primitive = primitive;
  thread->place = place;
  hone_fiber_switch(&thread->context, scheduler_);
}

void Grid::end_thread() {
  ++block->ended;
  leave(State::kEnded, "the end", thread->place);
  __builtin_unreachable();
}

void Grid::fail(const std::string& message) {
  if (thread == nullptr) throw KernelFault(message);
  failure_ = "block " + std::to_string(thread->id.block) + ", thread " +
             std::to_string(thread->id.thread) + ": " + message;
  if (thread->exchanges > 0 || *thread->primitive != '\0') {
    failure_ += " (after " + std::string(thread->primitive) + " at " + text(thread->place) + ")";
  }
  void* never;
  hone_fiber_switch(&never, scheduler_);
  __builtin_unreachable();
}

/// All lanes wait in the same exchange: they may go on.
bool Grid::release_warp(Block& b, int warp) {
  Thread* lanes = &b.threads[warp * kWarp];
  for (int i = 0; i < kWarp; ++i) {
    if (lanes[i].state != State::kExchange || lanes[i].place.line() != lanes[0].place.line() ||
        lanes[i].place.column() != lanes[0].place.column() ||
        std::strcmp(lanes[i].place.file_name(), lanes[0].place.file_name()) != 0) {
      return false;
    }
  }
  if (std::strcmp(lanes[0].primitive, "warp_barrier") == 0) ++b.warps[warp].epoch;
  for (int i = 0; i < kWarp; ++i) lanes[i].state = State::kReady;
  return true;
}

bool Grid::step_warp(Block& b, int warp) {
  bool progress = false;
  do {
    for (int i = 0; i < kWarp; ++i) {
      Thread& t = b.threads[warp * kWarp + (schedule().reverse_threads ? kWarp - 1 - i : i)];
      if (t.state != State::kNew && t.state != State::kReady && t.state != State::kPaused) continue;
      const bool paused = t.state == State::kPaused;
      resume(t);
      progress = progress || !paused || t.state != State::kPaused;
    }
  } while (release_warp(b, warp));
  return progress;
}

bool Grid::release_barrier(Block& b) {
  const Thread& first = b.threads[0];
  for (const Thread& t : b.threads) {
    if (t.state != State::kBarrier || t.place.line() != first.place.line() ||
        std::strcmp(t.place.file_name(), first.place.file_name()) != 0) {
      return false;
    }
  }
  b.epoch = ++epoch_;
  for (Thread& t : b.threads) t.state = State::kReady;
  return true;
}

/// Runs the block until it ends or only waits for others. True: something moved.
bool Grid::step(Block& b) {
  block = &b;
  bool any = false;
  const int warps = threads_ / kWarp;
  for (;;) {
    bool progress = false;
    for (int w = 0; w < warps; ++w) {
      progress |= step_warp(b, schedule().reverse_threads ? warps - 1 - w : w);
    }
    if (b.ended == threads_) return true;
    if (release_barrier(b)) progress = true;
    any = any || progress;
    if (progress) continue;
    const auto paused = [](const Thread& t) { return t.state == State::kPaused; };
    if (std::any_of(b.threads.begin(), b.threads.end(), paused)) return any;
    stuck(b);
  }
}

/// Nobody can go on: says who waits where.
void Grid::stuck(Block& b) {
  const auto where = [](const Thread& t) {
    if (t.state == State::kEnded) return std::string("ended");
    return "at " + std::string(t.primitive) + " " + text(t.place);
  };
  const auto exchanging = [](const Thread& t) { return t.state == State::kExchange; };
  const auto first = std::find_if(b.threads.begin(), b.threads.end(), exchanging);
  const bool divergent = first != b.threads.end();
  const int warp = divergent ? first->id.thread / kWarp : 0;
  const int begin = divergent ? warp * kWarp : 0;
  const int end = divergent ? begin + kWarp : threads_;
  std::string message = "block " + std::to_string(b.index) + ": ";
  message += divergent ? "warp " + std::to_string(warp) + " diverges at a warp primitive:"
                       : "barrier not reached by all threads:";
  for (int i = begin; i < end;) {
    int last = i;
    while (last + 1 < end && where(b.threads[last + 1]) == where(b.threads[i])) ++last;
    message += (i == begin ? " threads " : ", threads ") + std::to_string(i) + "-" +
               std::to_string(last) + " " + where(b.threads[i]);
    i = last + 1;
  }
  throw KernelFault(message);
}

void Grid::run(int64_t blocks, int threads, size_t shared_bytes,
               const std::function<void()>& work) {
  constexpr int kIdleRounds = 1000;
  if (threads <= 0 || threads > 1024 || threads % kWarp != 0) {
    throw KernelFault("launch: expected a multiple of 32 threads up to 1024, got " +
                      std::to_string(threads));
  }
  if (shared_bytes > SharedMemory::kLimit) {
    throw KernelFault("launch: expected at most 232448 shared bytes, got " +
                      std::to_string(shared_bytes));
  }
  const FaultHandler guarded;
  blocks_ = blocks;
  threads_ = threads;
  shared_bytes_ = shared_bytes;
  body = &work;
  const size_t resident = std::min<int64_t>(blocks, std::max(1, schedule().resident_blocks));
  while (pool_.size() < resident) pool_.push_back(std::make_unique<Block>());
  int64_t next = 0, done = 0;
  const auto start_next = [&](Block& b) {
    start(b, schedule().reverse_blocks ? blocks - 1 - next : next);
    ++next;
  };
  try {
    for (size_t i = 0; i < resident; ++i) start_next(*pool_[i]);
    for (int idle = 0; done < blocks;) {
      bool progress = false;
      for (size_t i = 0; i < resident; ++i) {
        Block& b = *pool_[i];
        if (b.index < 0) continue;
        progress |= step(b);
        if (b.ended < threads) continue;
        ++done;
        b.index = -1;
        if (next < blocks) start_next(b);
      }
      idle = progress ? 0 : idle + 1;
      if (idle > kIdleRounds) throw KernelFault("blocks wait for each other and none goes on");
    }
  } catch (...) {
    for (size_t i = 0; i < resident; ++i) {  // stacks of threads that never end
      for (Thread& t : pool_[i]->threads) {
        if (t.stack != nullptr) stacks_.give(std::exchange(t.stack, nullptr));
      }
      pool_[i]->index = -1;
    }
    thread = nullptr;
    throw;
  }
  check_buffers();
}

}  // namespace

Schedule& schedule() {
  static Schedule current;
  return current;
}

void run_grid(int64_t blocks, int threads, size_t shared_bytes, const std::function<void()>& body) {
  grid().run(blocks, threads, shared_bytes, body);
}

const ThreadId& thread_id() { return grid().thread->id; }

void fail(const std::string& message) { grid().fail(message); }

std::string text(const Place& place) {
  const std::string file = place.file_name();
  return file.substr(file.find_last_of('/') + 1) + ":" + std::to_string(place.line());
}

void wait_at_barrier(const Place& place) { grid().leave(State::kBarrier, "barrier", place); }

void wait_at_warp_barrier(const Place& place) {
  grid().leave(State::kExchange, "warp_barrier", place);
}

void pause() {
  Thread& t = *grid().thread;
  grid().leave(State::kPaused, t.primitive, t.place);
}

const Shown* exchange(const char* primitive, const void* value, size_t bytes, const Place& place) {
  Thread& t = *grid().thread;
  Warp& warp = grid().block->warps[t.id.thread / kWarp];
  Shown* shown = warp.shown[t.exchanges++ % 2];
  std::memcpy(shown[t.id.thread % kWarp].bytes, value, bytes);
  grid().leave(State::kExchange, primitive, place);
  return shown;
}

size_t static_shared(const void* tag, size_t bytes, const char* name) {
  std::string error;
  const size_t offset = grid().block->shared.place(tag, bytes, error);
  if (!error.empty()) fail(std::string(name) + ": " + error);
  return offset;
}

size_t dynamic_shared_offset(size_t byte_offset, size_t bytes) {
  const size_t launched = grid().block->shared.dynamic_bytes();
  if (byte_offset + bytes > launched) {
    fail("dynamic shared memory: bytes " + std::to_string(byte_offset) + " to " +
         std::to_string(byte_offset + bytes) + " of " + std::to_string(launched) + " launched");
  }
  return byte_offset;
}

void* access_shared(size_t offset, size_t bytes, Access access, const char* name) {
  Block& b = *grid().block;
  const int t = grid().thread->id.thread;
  const auto wrong = b.shared.note(offset, bytes, access, {t, b.epoch, b.warps[t / kWarp].epoch});
  if (wrong) fail("shared " + std::string(name) + ": " + *wrong);
  return b.shared.data() + offset;
}

void start_copy(size_t offset, const void* from, const char* name) {
  access_shared(offset, kCopyBytes, Access::kWrite, name);
  grid().block->shared.set_awaited(offset, kCopyBytes, true);
  Thread& t = *grid().thread;
  Copy& copy = t.copies.emplace_back(Copy{offset, name, t.groups, {}});
  if (from != nullptr) std::memcpy(copy.bytes, from, kCopyBytes);
}

void commit_copies() { ++grid().thread->groups; }

void wait_for_copies(int newest) {
  Thread& t = *grid().thread;
  const auto under_way = [&](const Copy& copy) { return copy.group + newest >= t.groups; };
  const auto arrived = std::stable_partition(t.copies.begin(), t.copies.end(), under_way);
  for (auto copy = arrived; copy != t.copies.end(); ++copy) {
    grid().block->shared.set_awaited(copy->offset, kCopyBytes, false);
    std::memcpy(access_shared(copy->offset, kCopyBytes, Access::kWrite, copy->name), copy->bytes,
                kCopyBytes);
  }
  t.copies.erase(arrived, t.copies.end());
}

}  // namespace hone::fiber
