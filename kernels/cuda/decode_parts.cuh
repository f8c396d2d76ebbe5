#pragma once

// What surrounds the attend kernel of decode_attention.cu: the cache, and the parts of a context
// that is attended to in chunks.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/cuda/attention_launchers.h"
#include "kernels/device/collectives.h"
#include "kernels/math/rope.h"

namespace hone::kernels::cuda {

using math::Compute;

constexpr int kDecodeThreads = 128;
constexpr int kChunk = 256;  // tokens of context a block

template <typename C>
struct Parts {
  C* top;     // [rows, heads, chunks] largest score
  C* sum;     // [rows, heads, chunks] of e^(score - top)
  C* values;  // [rows, heads, chunks, head_dim] weighted by e^(score - top)
  int chunks;
};

template <typename T>
int chunk_count(const DecodeArgs<T>& a) {
  return static_cast<int>((a.max_blocks * a.block_size + kChunk - 1) / kChunk);
}

/// The place of a key in the cache. 32-bit division: a 64-bit one is a function call on a GPU.
template <typename T>
HONE_DEVICE int64_t slot_of(const DecodeArgs<T>& a, int64_t row, int64_t key) {
  const int at = static_cast<int>(key), size = static_cast<int>(a.block_size);
  return int64_t{a.block_table[row * a.max_blocks + at / size]} * size + at % size;
}

/// A thread a pair of elements of a row's new keys and values.
template <typename T>
HONE_KERNEL(kDecodeThreads)
enter_cache_kernel(DecodeArgs<T> a, int blocks_of_row) {
  using C = Compute<T>;
  const int64_t row = device::block_index() / blocks_of_row, position = a.positions[row];
  const int half = static_cast<int>(a.sizes.head_dim / 2);
  const int64_t size = a.sizes.kv_heads * a.sizes.head_dim;
  const int i = static_cast<int>(device::block_index() % blocks_of_row) * kDecodeThreads +
                device::thread_index();
  if (i >= a.sizes.kv_heads * half) return;
  const T* k = a.qkv + row * a.sizes.width() + a.sizes.heads * a.sizes.head_dim;
  const T* v = k + size;
  const int64_t slot = slot_of(a, row, position) * size;
  const int column = i % half;
  const int64_t at = i / half * a.sizes.head_dim + column;
  C first = math::widen(k[at]), second = math::widen(k[at + half]);
  math::rope_rotate(first, second, a.cos[position * half + column],
                    a.sin[position * half + column]);
  math::narrow(first, a.k_cache[slot + at]);
  math::narrow(second, a.k_cache[slot + at + half]);
  a.v_cache[slot + at] = v[at];
  a.v_cache[slot + at + half] = v[at + half];
}

template <typename T>
cudaError_t launch_enter_cache(const DecodeArgs<T>& a, cudaStream_t stream) {
  const int64_t pairs = a.sizes.kv_heads * a.sizes.head_dim / 2;
  const int blocks = static_cast<int>((pairs + kDecodeThreads - 1) / kDecodeThreads);
  return device::launch(enter_cache_kernel<T>, a.rows * blocks, kDecodeThreads, 0, stream, a,
                        blocks);
}

template <typename T>
HONE_KERNEL(kDecodeThreads)
combine_kernel(DecodeArgs<T> a, Parts<Compute<T>> parts) {
  using C = Compute<T>;
  const int64_t hd = a.sizes.head_dim;
  const int row = static_cast<int>(device::block_index()) / static_cast<int>(a.sizes.heads);
  const int64_t position = a.positions[row];
  const int64_t begin = a.sizes.first_key(position) / kChunk, last = position / kChunk;
  const int64_t part = device::block_index() * parts.chunks;
  C top = parts.top[part + begin];
  for (int64_t c = begin + 1; c <= last; ++c) top = device::Larger{}(top, parts.top[part + c]);
  for (int64_t column = device::thread_index(); column < hd; column += kDecodeThreads) {
    C sum = 0, value = 0;
    for (int64_t c = begin; c <= last; ++c) {
      const C weight = std::exp(parts.top[part + c] - top);
      sum += weight * parts.sum[part + c];
      value += weight * parts.values[(part + c) * hd + column];
    }
    math::narrow(value / sum, a.out[device::block_index() * hd + column]);
  }
}

}  // namespace hone::kernels::cuda
