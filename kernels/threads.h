#pragma once

#include <cstdint>

namespace hone::kernels {

/// Intra-op threads of the calling thread. A thread's first at::parallel_for in each shared library
/// resets the setting to the process's; after this call those of LibTorch and of this library keep
/// it.
void set_thread_count(int threads);

/// Denormal numbers count as zero in the calling thread and in the threads that it starts (x86).
/// Probabilities and their gradients fall below 1e-38 all the time, and each product with one costs
/// the core some 150 cycles: a fifth of a PPO update.
void flush_denormals();

/// The same for the calling thread while this object lives.
class FlushedDenormals {
 public:
  FlushedDenormals();
  ~FlushedDenormals();
  FlushedDenormals(const FlushedDenormals&) = delete;
  FlushedDenormals& operator=(const FlushedDenormals&) = delete;

 private:
  uint32_t before_;
};

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
