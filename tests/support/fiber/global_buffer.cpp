#include "tests/support/fiber/global_buffer.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <new>
#include <set>

#include "tests/support/fiber/grid.h"

namespace hone::fiber {
namespace {

constexpr unsigned char kSlack = 0xA5;

std::set<Region*>& regions() {
  static std::set<Region*> all;
  return all;
}

struct sigaction previous_segv, previous_bus;

void on_fault(int, siginfo_t* info, void*) {
  for (const Region* region : regions()) {
    if (region->holds(info->si_addr)) fail(region->describe(info->si_addr));
  }
  fail("access to address " + std::to_string(reinterpret_cast<uintptr_t>(info->si_addr)) +
       ", which is in no buffer");
}

}  // namespace

Placement& placement() {
  static Placement current = Placement::kEnd;
  return current;
}

Region::Region(size_t bytes, size_t alignment, std::string name)
    : bytes_(bytes), name_(std::move(name)) {
  const size_t page = sysconf(_SC_PAGESIZE);
  const size_t inner = (bytes + page - 1) / page * page;
  mapped_ = inner + 2 * page;
  void* base = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) throw std::bad_alloc();
  base_ = static_cast<unsigned char*>(base);
  if (inner > 0 && mprotect(base_ + page, inner, PROT_READ | PROT_WRITE) != 0) {
    throw std::bad_alloc();
  }
  if (placement() == Placement::kAlignedEnd) alignment = std::max<size_t>(alignment, 16);
  data_ = base_ + page;
  if (placement() != Placement::kStart) data_ += (inner - bytes) / alignment * alignment;
  std::memset(base_ + page, kSlack, inner);
  regions().insert(this);
}

Region::~Region() {
  regions().erase(this);
  munmap(base_, mapped_);
}

bool Region::holds(const void* address) const {
  return address >= base_ && address < base_ + mapped_;
}

std::string Region::describe(const void* address) const {
  const auto offset = static_cast<const unsigned char*>(address) - data_;
  return "buffer " + name_ + " of " + std::to_string(bytes_) + " bytes: access at byte " +
         std::to_string(offset);
}

bool Region::slack_untouched() const {
  const size_t page = sysconf(_SC_PAGESIZE);
  const auto intact = [](unsigned char byte) { return byte == kSlack; };
  return std::all_of(base_ + page, data_, intact) &&
         std::all_of(data_ + bytes_, base_ + mapped_ - page, intact);
}

void check_buffers() {
  for (const Region* region : regions()) {
    if (!region->slack_untouched()) {
      throw KernelFault(region->describe(region->data()) + ": written beside it");
    }
  }
}

FaultHandler::FaultHandler() {
  struct sigaction action {};
  action.sa_sigaction = &on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;  // the handler never returns
  sigemptyset(&action.sa_mask);
  sigaction(SIGSEGV, &action, &previous_segv);
  sigaction(SIGBUS, &action, &previous_bus);
}

FaultHandler::~FaultHandler() {
  sigaction(SIGSEGV, &previous_segv, nullptr);
  sigaction(SIGBUS, &previous_bus, nullptr);
}

}  // namespace hone::fiber
