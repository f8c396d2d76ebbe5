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

/// Writes a row's new keys (rotated) and values of `heads` kv heads from `first` on into its
/// caches, by all threads of a block.
template <typename T>
HONE_DEVICE void enter_cache(const DecodeArgs<T>& a, int64_t row, int64_t position, int first,
                             int heads) {
  using C = Compute<T>;
  const int half = static_cast<int>(a.sizes.head_dim / 2);
  const int64_t size = a.sizes.kv_heads * a.sizes.head_dim;
  const T* k = a.qkv + row * a.sizes.width() + a.sizes.heads * a.sizes.head_dim;
  const T* v = k + size;
  const int64_t slot = slot_of(a, row, position) * size;
  for (int i = device::thread_index(); i < heads * half; i += kDecodeThreads) {
    const int column = i % half;
    const int64_t at = (first + i / half) * a.sizes.head_dim + column;
    C low = math::widen(k[at]), high = math::widen(k[at + half]);
    math::rope_rotate(low, high, a.cos[position * half + column], a.sin[position * half + column]);
    math::narrow(low, a.k_cache[slot + at]);
    math::narrow(high, a.k_cache[slot + at + half]);
    a.v_cache[slot + at] = v[at];
    a.v_cache[slot + at + half] = v[at + half];
  }
}

template <typename T>
HONE_KERNEL(kDecodeThreads)
enter_cache_kernel(DecodeArgs<T> a) {
  const int64_t row = device::block_index();
  enter_cache(a, row, a.positions[row], 0, static_cast<int>(a.sizes.kv_heads));
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
