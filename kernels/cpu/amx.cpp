#include "kernels/cpu/amx.h"

#include <atomic>
#include <stdexcept>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace hone::kernels {
namespace {

bool granted() {
#if defined(__x86_64__) && defined(__linux__)
  constexpr unsigned kAmxBf16 = 1U << 22, kAmxTile = 1U << 24, kAvx512Bf16 = 1U << 5;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & kAmxBf16) || !(d & kAmxTile)) return false;
  if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & kAvx512Bf16)) return false;
  // The tiles' 8 KB are part of a thread's state only where the process has asked for them
  // (Documentation/arch/x86/xstate.rst); this also fails where the system does not save them.
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

std::atomic<bool>& wanted() {
  static std::atomic<bool> value{true};
  return value;
}

}  // namespace

bool amx_usable() {
  static const bool can = granted();
  return can && wanted().load(std::memory_order_relaxed);
}

void no_matrix_unit() {
  throw std::logic_error(
      "AMX: this machine's instructions were not compiled in (highway_targets.h)");
}

void use_amx(bool use) { wanted() = use; }

}  // namespace hone::kernels
