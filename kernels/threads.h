#pragma once

namespace hone::kernels {

/// Intra-op threads of the calling thread. A thread's first at::parallel_for in each shared library
/// resets the setting to the process's; after this call those of LibTorch and of this library keep
/// it.
void set_thread_count(int threads);

/// One thread for every GEMM of the calling thread while this object lives. LibTorch's MKL plans
/// for its own number of threads even inside a parallel region: results then depend on it.
class OneGemmThread {
 public:
  OneGemmThread();
  ~OneGemmThread();
  OneGemmThread(const OneGemmThread&) = delete;
  OneGemmThread& operator=(const OneGemmThread&) = delete;

 private:
  int before_;
};

}  // namespace hone::kernels
