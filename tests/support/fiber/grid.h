#pragma once

// Runs a grid of blocks of threads on the host, a fiber a thread, on the calling thread of the
// process. What a GPU would let pass is a KernelFault that names block, thread and place.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <stdexcept>
#include <string>

#include "tests/support/fiber/shared_memory.h"

namespace hone::fiber {

struct KernelFault : std::runtime_error {
  using runtime_error::runtime_error;
};

/// The order that a kernel must not depend on.
struct Schedule {
  bool reverse_threads = false;  // from the last thread of the last warp down
  bool reverse_blocks = false;   // the last block starts first
  int resident_blocks = 2;       // blocks that run at a time, taking turns at pause()
};

/// Of the launches from now on.
Schedule& schedule();

using Place = std::source_location;

/// Runs `body` once in every thread. `shared_bytes`: of the dynamic shared memory.
void run_grid(int64_t blocks, int threads, size_t shared_bytes, const std::function<void()>& body);

// What follows is called from inside `body`.

struct ThreadId {
  int thread;
  int threads;
  int64_t block;
  int64_t blocks;
};
const ThreadId& thread_id();

/// Ends the launch: run_grid throws a KernelFault with the block, the thread and `message`.
[[noreturn]] void fail(const std::string& message);

/// "reduce.cu:17"
std::string text(const Place& place);

void wait_at_barrier(const Place& place);
void wait_at_warp_barrier(const Place& place);
void pause();

/// Shows `bytes` (at most kMaxExchange) bytes to the other lanes of the warp and waits for theirs;
/// what lane i showed is at exchange(...)[i], until the lane's next exchange.
constexpr size_t kMaxExchange = 256;
struct Shown {
  alignas(16) unsigned char bytes[kMaxExchange];
};
const Shown* exchange(const char* primitive, const void* value, size_t bytes, const Place& place);

/// The block's shared memory: a static array by the address of its tag, or a view of the dynamic
/// bytes. Offsets are positions in the block's memory.
size_t static_shared(const void* tag, size_t bytes, const char* name);
size_t dynamic_shared_offset(size_t byte_offset, size_t bytes);

/// One access of a thread: checks for races and for reads of what was never written.
void* access_shared(size_t offset, size_t bytes, Access access, const char* name);

/// 16 bytes that arrive in shared memory when the thread waits for their group: from `from`, which
/// is read now, or zeros where that is null. Any access before is a fault.
constexpr size_t kCopyBytes = 16;
void start_copy(size_t offset, const void* from, const char* name);
void commit_copies();
/// Until at most `newest` groups of the thread are under way.
void wait_for_copies(int newest);

}  // namespace hone::fiber
