#pragma once

// cudaError_t and cudaStream_t for declarations of launchers. Fiber builds (HONE_DEVICE_PRIMITIVES)
// need no CUDA toolkit.

#if defined(HONE_DEVICE_PRIMITIVES)

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1 };
using cudaStream_t = struct FiberStream*;

#else

#include <cuda_runtime_api.h>

#endif
