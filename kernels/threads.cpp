#include "kernels/threads.h"

#include <ATen/Parallel.h>

/// MKL's setting for the calling thread: takes the number of threads (0 = the process's), gives
/// back the old one. Weak: a LibTorch without MKL has none.
extern "C" int MKL_Set_Num_Threads_Local(int threads) __attribute__((weak));

namespace hone::kernels {

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
