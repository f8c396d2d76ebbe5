#pragma once

// HONE_HD marks a formula that the CPU loops and the CUDA kernels both call. Everything under
// kernels/math is plain C++ over float or double and knows nothing of torch.

#if defined(__CUDACC__)
#define HONE_HD __host__ __device__ __forceinline__
#else
#define HONE_HD inline
#endif
