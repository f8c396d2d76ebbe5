#pragma once

// The one set of device primitives that kernels are written in. Two implementations: CUDA's
// (cuda_primitives.cuh), and fibers on the host (tests/support/fiber), which run every kernel in
// the tests on a machine without a GPU and report what a GPU would let pass: see
// kernels/cuda/README.md.
//
//   HONE_KERNEL(threads) name(Args a) {...}   a kernel for blocks of at most `threads` threads
//   HONE_KERNEL_RESIDENT(threads, blocks)     and so few registers that `blocks` of them fit an SM
//   HONE_DEVICE                               a function that kernels call
//   HONE_UNROLL                               before a loop
//   HONE_SHARED(Type, name, count)            static shared array; name[i] reads and writes whole
//                                             elements (no address, no member: copy, then use)
//   dynamic_shared<T>(byte_offset, count)     a SharedView<T> of the launch's dynamic shared bytes
//   SharedView<T>                             what both give: [i], + offset
//
//   thread_index() block_index() block_threads() grid_blocks()      one dimension
//   lane() warp_index()                       of the thread; kWarp = 32 lanes
//   barrier()                                 all threads of the block, from the same place
//   warp_barrier()                            all lanes of the warp; orders their shared memory
//   shuffle(v, lane) shuffle_up/down/xor(v, n)  any trivially copyable v; all 32 lanes, from the
//                                             same place; outside the warp: the lane's own value
//   ballot(p)                                 bit i: p of lane i; ones(word): how many bits are set
//   multiply_add(d, a, b)                     D[16,8] += A[16,16] B[16,8] of a warp: matrix.h
//   load_vector<N>(base, i), store_vector(base, i, v)   N consecutive elements from element i on,
//                                             aligned to N*sizeof(T) <= 16; global or shared
//   forget_values(v)                          a vector in registers stays as it is stored: what is
//                                             made of its elements after is made again, not kept
//   copy_async(to, i, from, there)            16 bytes, global to shared, without registers; zeros
//                                             where not `there`, and nothing is read. Both aligned
//   copy_async_commit(), copy_async_wait<N>() the thread's copies since its last commit are a
//                                             group; waits until at most its N newest are under
//                                             way. Until then nobody touches their bytes; a barrier
//                                             after it shows them to the other threads
//   load_matrices(view, i)                    four 8x8 matrices of 16-bit elements: lane l names
//                                             the first element (aligned to 16 bytes) of row l%8 of
//                                             matrix l/8; its word m is of matrix m, row l/4,
//                                             columns 2(l%4) and the next
//   load_matrices_transposed(view, i)         likewise; rows 2(l%4) and the next, column l/4
//   is_aligned<N>(pointer)                    may load_vector<N> start there?
//   exp2_approximate(x)                       2^x to 2 units in the last place, 0 where subnormal
//   load_acquire(p), store_release(p, v)      words that blocks talk through
//   load_relaxed(p), store_relaxed(p, v)      the same where the word is all that is said
//   atomic_add(p, n)                          unsigned tickets and counters; never a float
//   atomic_add(view, i, n)                    the same in shared memory
//   atomic_add_relaxed(p, n)                  uint64_t; orders nothing but itself
//   fence()                                   orders this thread's accesses for the whole device
//   pause()                                   inside a loop that waits for another block
//
//   launch(kernel, blocks, threads, shared_bytes, stream, args...) -> cudaError_t
//
// `threads` is a multiple of 32, at most 1024; no blocks, no launch. Kernels have no other way to
// start, to meet, or to share memory, so what runs on fibers is what runs on a GPU, up to the
// rounding of a*b+c (contracted on a GPU) and of exp, log and their like.

#if defined(HONE_DEVICE_PRIMITIVES)
#include HONE_DEVICE_PRIMITIVES
#else
#include "kernels/device/cuda_primitives.cuh"
#endif
