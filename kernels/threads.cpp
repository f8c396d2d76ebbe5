#include "kernels/threads.h"

#include <ATen/Parallel.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

/// MKL's setting for the calling thread: takes the number of threads (0 = the process's), gives
/// back the old one. Weak: a LibTorch without MKL has none.
extern "C" int MKL_Set_Num_Threads_Local(int threads) __attribute__((weak));

namespace hone::kernels {
namespace {

/// The processor's floating-point modes; nothing but zero where there is no such register.
uint32_t float_modes() {
#ifdef __SSE__
  return _mm_getcsr();
#else
  return 0;
#endif
}
void set_float_modes([[maybe_unused]] uint32_t modes) {
#ifdef __SSE__
  _mm_setcsr(modes);
#endif
}

constexpr uint32_t kFlush = 0x8040;  // denormal results and operands are zero (FTZ, DAZ)

}  // namespace

void flush_denormals() { set_float_modes(float_modes() | kFlush); }

FlushedDenormals::FlushedDenormals() : before_(float_modes()) { flush_denormals(); }
FlushedDenormals::~FlushedDenormals() { set_float_modes(before_); }

void set_thread_count(int threads) {
  at::get_num_threads();                  // LibTorch's own first look
  at::internal::lazy_init_num_threads();  // this library's
  at::set_num_threads(threads);
}

OneGemmThread::OneGemmThread()
    : before_(MKL_Set_Num_Threads_Local ? MKL_Set_Num_Threads_Local(1) : 0) {}

OneGemmThread::~OneGemmThread() {
  if (MKL_Set_Num_Threads_Local) MKL_Set_Num_Threads_Local(before_);
}

}  // namespace hone::kernels
