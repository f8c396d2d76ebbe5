#pragma once

// The primitives of primitives.h on CUDA. The only file with <<<>>>, __shared__ and the built-in
// variables; everything here inlines to the instruction it names.

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/device/matrix.h"
#include "kernels/device/vector.h"

#define HONE_KERNEL(threads) __global__ void __launch_bounds__(threads)
#define HONE_KERNEL_RESIDENT(threads, blocks) __global__ void __launch_bounds__(threads, blocks)
#define HONE_DEVICE __device__ __forceinline__
#define HONE_UNROLL _Pragma("unroll")
#define HONE_SHARED(Type, name, count)                                             \
  __shared__ ::hone::kernels::device::SharedStorage<Type, (count)> name##_storage; \
  Type* const name = name##_storage.elements()

namespace hone::kernels::device {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xFFFFFFFFu;

template <typename T>
using SharedView = T*;

/// Raw, because a __shared__ variable may not have a constructor.
template <typename T, int N>
struct SharedStorage {
  alignas(alignof(T) > 16 ? alignof(T) : 16) unsigned char bytes[sizeof(T) * N];

  __device__ T* elements() { return reinterpret_cast<T*>(bytes); }
};

HONE_DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
HONE_DEVICE int64_t block_index() { return blockIdx.x; }
HONE_DEVICE int block_threads() { return static_cast<int>(blockDim.x); }
HONE_DEVICE int64_t grid_blocks() { return gridDim.x; }
HONE_DEVICE int lane() { return static_cast<int>(threadIdx.x) % kWarp; }
HONE_DEVICE int warp_index() { return static_cast<int>(threadIdx.x) / kWarp; }

HONE_DEVICE void barrier() { __syncthreads(); }
HONE_DEVICE void warp_barrier() { __syncwarp(); }
HONE_DEVICE int ones(unsigned word) { return __popc(word); }
HONE_DEVICE unsigned ballot(bool p) { return __ballot_sync(kAllLanes, p); }

/// Applies a 32-bit shuffle to the words of any trivially copyable value.
template <typename T, typename Shuffle>
HONE_DEVICE T shuffle_words(const T& v, Shuffle shuffle_word) {
  if constexpr (sizeof(T) < sizeof(unsigned)) {
    unsigned word = 0;
    memcpy(&word, &v, sizeof(T));
    word = shuffle_word(word);
    T out;
    memcpy(&out, &word, sizeof(T));
    return out;
  } else {
    static_assert(sizeof(T) % sizeof(unsigned) == 0);
    constexpr int kWords = sizeof(T) / sizeof(unsigned);
    unsigned words[kWords];
    memcpy(words, &v, sizeof(T));
    HONE_UNROLL
    for (int i = 0; i < kWords; ++i) words[i] = shuffle_word(words[i]);
    T out;
    memcpy(&out, words, sizeof(T));
    return out;
  }
}

template <typename T>
HONE_DEVICE T shuffle(const T& v, int from) {
  return shuffle_words(v, [&](unsigned w) { return __shfl_sync(kAllLanes, w, from); });
}
template <typename T>
HONE_DEVICE T shuffle_up(const T& v, int n) {
  return shuffle_words(v, [&](unsigned w) { return __shfl_up_sync(kAllLanes, w, n); });
}
template <typename T>
HONE_DEVICE T shuffle_down(const T& v, int n) {
  return shuffle_words(v, [&](unsigned w) { return __shfl_down_sync(kAllLanes, w, n); });
}
template <typename T>
HONE_DEVICE T shuffle_xor(const T& v, int n) {
  return shuffle_words(v, [&](unsigned w) { return __shfl_xor_sync(kAllLanes, w, n); });
}

HONE_DEVICE void multiply_add(MatrixD& d, const MatrixA& a, const MatrixB& b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d.value[0]), "+f"(d.value[1]), "+f"(d.value[2]), "+f"(d.value[3])
      : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]),
        "r"(b.word[1]));
}

HONE_DEVICE uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

template <typename T>
HONE_DEVICE void copy_async(T* to, int64_t i, const T* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to + i)),
               "l"(from), "r"(there ? 16 : 0)
               : "memory");
}
HONE_DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N>
HONE_DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

template <typename T>
HONE_DEVICE MatrixA load_matrices(const T* base, int64_t i) {
  static_assert(sizeof(T) == 2);
  MatrixA out;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out.word[0]), "=r"(out.word[1]), "=r"(out.word[2]), "=r"(out.word[3])
               : "r"(shared_address(base + i)));
  return out;
}
template <typename T>
HONE_DEVICE MatrixA load_matrices_transposed(const T* base, int64_t i) {
  static_assert(sizeof(T) == 2);
  MatrixA out;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out.word[0]), "=r"(out.word[1]), "=r"(out.word[2]), "=r"(out.word[3])
               : "r"(shared_address(base + i)));
  return out;
}

HONE_DEVICE float exp2_approximate(float x) {
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}
HONE_DEVICE double exp2_approximate(double x) { return exp2(x); }

template <int N, typename T>
HONE_DEVICE Vector<T, N> load_vector(const T* base, int64_t i) {
  return *reinterpret_cast<const Vector<T, N>*>(base + i);
}

/// The words of a vector. No instruction, but the compiler cannot know what they are.
template <typename V>
struct OpaqueWords {
  static constexpr int kCount = sizeof(V) / sizeof(unsigned);
  static_assert(sizeof(V) == kCount * sizeof(unsigned));
  alignas(V) unsigned word[kCount];

  HONE_DEVICE explicit OpaqueWords(const V& v) {
    memcpy(word, &v, sizeof v);
    HONE_UNROLL
    for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(word[i]));
  }
};

template <typename T, int N>
HONE_DEVICE void forget_values(Vector<T, N>& v) {
  const OpaqueWords<Vector<T, N>> words(v);
  memcpy(&v, &words, sizeof v);
}

template <typename T, int N>
HONE_DEVICE void store_vector(T* base, int64_t i, const Vector<T, N>& v) {
  using V = Vector<T, N>;
  if constexpr (sizeof(T) < sizeof(unsigned) && sizeof(V) >= sizeof(unsigned)) {
    // Elements of 16 bits would be stored in pairs, as they are made.
    const OpaqueWords<V> words(v);
    if constexpr (sizeof(V) == 16) {
      const auto pair = [&](int w) {
        return static_cast<unsigned long long>(words.word[w + 1]) << 32 | words.word[w];
      };
      *reinterpret_cast<__uint128_t*>(base + i) = __uint128_t{pair(2)} << 64 | pair(0);
    } else {
      *reinterpret_cast<OpaqueWords<V>*>(base + i) = words;
    }
  } else {
    *reinterpret_cast<V*>(base + i) = v;
  }
}

template <typename T>
HONE_DEVICE SharedView<T> dynamic_shared(size_t byte_offset, int64_t) {
  extern __shared__ __align__(16) unsigned char hone_dynamic_shared[];
  return reinterpret_cast<T*>(hone_dynamic_shared + byte_offset);
}

/// 4 or 8 bytes. Pairs with store_release: what the other block wrote before is visible after.
template <typename T>
HONE_DEVICE T load_acquire(const T* p) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  T out;
  if constexpr (sizeof(T) == 4) {
    unsigned word;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(word) : "l"(p) : "memory");
    memcpy(&out, &word, sizeof(T));
  } else {
    unsigned long long word;
    asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(word) : "l"(p) : "memory");
    memcpy(&out, &word, sizeof(T));
  }
  return out;
}
template <typename T>
HONE_DEVICE void store_release(T* p, const T& v) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  if constexpr (sizeof(T) == 4) {
    unsigned word;
    memcpy(&word, &v, sizeof(T));
    asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(word) : "memory");
  } else {
    unsigned long long word;
    memcpy(&word, &v, sizeof(T));
    asm volatile("st.release.gpu.global.u64 [%0], %1;" ::"l"(p), "l"(word) : "memory");
  }
}
/// A word that carries all that is said; it orders no other access, and costs no fence. 8 bytes.
HONE_DEVICE uint64_t load_relaxed(const uint64_t* p) {
  unsigned long long word;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(word) : "l"(p) : "memory");
  return word;
}
HONE_DEVICE void store_relaxed(uint64_t* p, uint64_t v) {
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(p), "l"(v) : "memory");
}
HONE_DEVICE uint64_t atomic_add_relaxed(uint64_t* p, uint64_t n) {
  return atomicAdd(reinterpret_cast<unsigned long long*>(p), n);
}
HONE_DEVICE void fence() { __threadfence(); }

/// The value before. Ordered against the thread's other accesses on both sides.
HONE_DEVICE unsigned atomic_add(unsigned* p, unsigned n) {
  __threadfence();
  const unsigned before = atomicAdd(p, n);
  __threadfence();
  return before;
}
/// Of a word of shared memory; unordered but for barriers.
HONE_DEVICE unsigned atomic_add(SharedView<unsigned> x, int64_t i, unsigned n) {
  return atomicAdd(x + i, n);
}
HONE_DEVICE void pause() { __nanosleep(32); }

template <typename... Parameters, typename... Args>
cudaError_t launch(void (*kernel)(Parameters...), int64_t blocks, int threads, size_t shared_bytes,
                   cudaStream_t stream, const Args&... args) {
  if (blocks == 0) return cudaSuccess;
  if (blocks < 0 || blocks > 0x7FFFFFFF) return cudaErrorInvalidValue;
  if (shared_bytes > 0) {  // static and dynamic together may be more than a kernel has unasked
    const cudaError_t error =
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes));
    if (error != cudaSuccess) return error;
  }
  kernel<<<static_cast<unsigned>(blocks), threads, shared_bytes, stream>>>(
      static_cast<Parameters>(args)...);
  return cudaGetLastError();
}

}  // namespace hone::kernels::device
