// libhone_nccl.so: c10d's NCCL, apart from the engine so that a program without GPUs neither links
// nor loads CUDA. Loaded when a collective is asked of tensors on a GPU.

#ifndef USE_C10D_NCCL
#define USE_C10D_NCCL
#endif
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

extern "C" {

/// A backend over `store` for this rank; the caller owns the reference.
__attribute__((visibility("default"))) c10d::Backend* hone_nccl_backend(c10d::Store* store,
                                                                        int rank, int world) {
  auto shared = c10::intrusive_ptr<c10d::Store>::reclaim_copy(store);
  auto backend = c10::make_intrusive<c10d::ProcessGroupNCCL>(std::move(shared), rank, world);
  return backend.release();
}
}
