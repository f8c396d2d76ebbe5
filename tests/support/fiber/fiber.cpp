#include "tests/support/fiber/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

// The callee-saved registers go to the old stack and come from the new one.
asm(R"(
.text
.globl hone_fiber_switch
.type hone_fiber_switch, @function
hone_fiber_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size hone_fiber_switch, .-hone_fiber_switch
)");

namespace hone::fiber {

StackPool::~StackPool() {
  const size_t page = sysconf(_SC_PAGESIZE);
  for (void* top : all_) munmap(static_cast<char*>(top) - kBytes - page, kBytes + page);
}

void* StackPool::take() {
  if (free_.empty()) {
    const size_t page = sysconf(_SC_PAGESIZE);
    void* base = mmap(nullptr, kBytes + page, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED || mprotect(base, page, PROT_NONE) != 0) throw std::bad_alloc();
    all_.push_back(static_cast<char*>(base) + page + kBytes);
    return all_.back();
  }
  void* top = free_.back();
  free_.pop_back();
  return top;
}

void* prepare_context(void* top, void (*entry)()) {
  // From high to low: a stop for unwinders, the address that `ret` takes, six registers. On entry
  // the stack pointer is 8 below a multiple of 16, as after a call.
  void** sp = static_cast<void**>(top);
  *--sp = nullptr;
  *--sp = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--sp = nullptr;
  return sp;
}

}  // namespace hone::fiber
