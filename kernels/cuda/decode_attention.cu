// One token a row against its block cache, bound by reading keys and values once.
//
//   enter_cache_kernel  rotates the new keys, writes keys and values of all rows
//   attend_kernel       a block a (row, kv head, kGroup of its query heads, chunk of context)
//   combine_kernel      a block a (row, head): the parts of the chunks, in their order
//
// A chunk is 256 tokens whatever the batch, so a row has the same bits in any batch, and one row of
// 32k tokens still makes 128 blocks a kv head. Its parts (maximum, sum, weighted values) are under
// 2 % of the bytes of its keys and values. 128 threads: 4 warps ask for 8 KB of keys before the
// first is used (kBatch vectors a lane), which hides the latency of memory with the 4 or more
// blocks that an SM holds. A lane holds 16 bytes of a key; `lanes` of them (a power of two) make
// one key, 32/lanes keys a warp. Query heads that share keys are computed together, kGroup at most
// (64 registers for queries, then for sums of values, in float).
//
// Limits: head_dim a multiple of 32 bytes and at most 512 bytes; caches aligned to 16 bytes.

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "kernels/cuda/decode_parts.cuh"
#include "kernels/cuda/decode_tiles.h"

namespace hone::kernels::cuda {
namespace {

using device::kVectorWidth;
using device::kWarp;
using device::Vector;

constexpr int kThreads = kDecodeThreads, kWarps = kThreads / kWarp;
constexpr int kBatch = 4;

template <typename T, int kGroup>
HONE_KERNEL_RESIDENT(kThreads, 4)
attend_kernel(DecodeArgs<T> a, Parts<Compute<T>> parts, int pieces, int lanes) {
  using C = Compute<T>;
  constexpr int E = kVectorWidth<T>;
  const int hd = static_cast<int>(a.sizes.head_dim), half = hd / 2;
  const int kv_heads = static_cast<int>(a.sizes.kv_heads);
  int index = static_cast<int>(device::block_index());
  const int chunk = index % parts.chunks;
  index /= parts.chunks;
  const int piece = index % pieces;
  index /= pieces;
  const int kv_head = index % kv_heads;
  const int64_t row = index / kv_heads;
  const int64_t group = a.sizes.group();
  const int64_t first_head = kv_head * group + piece * kGroup;
  const int count = static_cast<int>(std::min<int64_t>(kGroup, group - piece * kGroup));
  const int position = static_cast<int>(a.positions[row]);
  const int begin = std::max(chunk * kChunk, static_cast<int>(a.sizes.first_key(position)));
  const int keys = std::min((chunk + 1) * kChunk, position + 1) - begin;
  if (keys <= 0) return;  // the whole block

  HONE_SHARED(int64_t, slot, kChunk);
  HONE_SHARED(C, score, kGroup * kChunk);
  HONE_SHARED(C, sum, kGroup);
  const auto query = device::dynamic_shared<C>(0, kGroup * hd);
  const auto of_warp = device::dynamic_shared<C>(kGroup * hd * sizeof(C), kWarps * kGroup * hd);

  const T* q = a.qkv + row * a.sizes.width() + first_head * hd;
  for (int i = device::thread_index(); i < kGroup * half; i += kThreads) {
    const int head = i / half, column = i % half;
    C first = 0, second = 0;
    if (head < count) {
      first = math::widen(q[head * hd + column]);
      second = math::widen(q[head * hd + column + half]);
      math::rope_rotate(first, second, a.cos[position * half + column],
                        a.sin[position * half + column]);
    }
    query[head * hd + column] = first * static_cast<C>(a.sizes.scale);
    query[head * hd + column + half] = second * static_cast<C>(a.sizes.scale);
  }
  for (int j = device::thread_index(); j < keys; j += kThreads) {
    slot[j] = (slot_of(a, row, begin + j) * a.sizes.kv_heads + kv_head) * hd;
  }
  device::barrier();

  const int column = device::lane() % lanes * E;
  const bool holds = column < hd;
  const int together = kWarps * kWarp / lanes;  // keys that the block looks at side by side
  const int first_key = device::thread_index() / lanes;
  /// visit(j, elements of key or value j) in order; all lanes of a warp visit alike.
  const auto for_keys = [&](const T* cache, auto visit) {
    for (int base = 0; base < keys; base += kBatch * together) {
      Vector<T, E> held[kBatch];
      HONE_UNROLL
      for (int b = 0; b < kBatch; ++b) {
        const int j = base + b * together + first_key;
        held[b] =
            holds && j < keys ? device::load_vector<E>(cache, slot[j] + column) : Vector<T, E>{};
      }
      HONE_UNROLL
      for (int b = 0; b < kBatch; ++b) visit(base + b * together + first_key, held[b]);
    }
  };

  C mine[kGroup][E];  // first the queries, then the sums of the values
  HONE_UNROLL
  for (int h = 0; h < kGroup; ++h) {
    HONE_UNROLL
    for (int e = 0; e < E; ++e) mine[h][e] = holds ? C(query[h * hd + column + e]) : C(0);
  }
  for_keys(a.k_cache, [&](int j, const Vector<T, E>& k) {
    HONE_UNROLL
    for (int h = 0; h < kGroup; ++h) {
      C dot = 0;
      HONE_UNROLL
      for (int e = 0; e < E; ++e) dot += mine[h][e] * math::widen(k[e]);
      for (int n = lanes / 2; n > 0; n /= 2) dot += device::shuffle_xor(dot, n);
      if (column == 0 && j < keys) score[h * kChunk + j] = dot;
    }
  });
  device::barrier();

  const int64_t part = (row * a.sizes.heads + first_head) * parts.chunks + chunk;
  for (int h = device::warp_index(); h < count; h += kWarps) {
    C top = -INFINITY, total = 0;
    for (int j = device::lane(); j < keys; j += kWarp) {
      top = device::Larger{}(top, C(score[h * kChunk + j]));
    }
    top = device::warp_all_reduce(top, device::Larger{});
    for (int j = device::lane(); j < keys; j += kWarp) {
      const C weight = std::exp(score[h * kChunk + j] - top);
      score[h * kChunk + j] = weight;
      total += weight;
    }
    total = device::warp_all_reduce(total, device::Add{});
    if (device::lane() == 0) {
      sum[h] = total;
      parts.top[part + h * parts.chunks] = top;
      parts.sum[part + h * parts.chunks] = total;
    }
  }
  device::barrier();

  HONE_UNROLL
  for (int h = 0; h < kGroup; ++h) {
    HONE_UNROLL
    for (int e = 0; e < E; ++e) mine[h][e] = C(0);
  }
  for_keys(a.v_cache, [&](int j, const Vector<T, E>& v) {
    if (j >= keys) return;
    HONE_UNROLL
    for (int h = 0; h < kGroup; ++h) {
      if (h >= count) break;
      const C weight = score[h * kChunk + j];
      HONE_UNROLL
      for (int e = 0; e < E; ++e) mine[h][e] += weight * math::widen(v[e]);
    }
  });
  HONE_UNROLL
  for (int h = 0; h < kGroup; ++h) {
    HONE_UNROLL
    for (int e = 0; e < E; ++e) {
      for (int n = lanes; n < kWarp; n *= 2) mine[h][e] += device::shuffle_xor(mine[h][e], n);
      if (device::lane() < lanes && holds) {
        of_warp[(device::warp_index() * kGroup + h) * hd + column + e] = mine[h][e];
      }
    }
  }
  device::barrier();
  for (int i = device::thread_index(); i < count * hd; i += kThreads) {
    const int h = i / hd;
    C total = of_warp[i];
    for (int w = 1; w < kWarps; ++w) total += of_warp[w * kGroup * hd + i];
    if (parts.chunks > 1) {
      parts.values[(part + h * parts.chunks) * hd + i % hd] = total;
    } else {
      math::narrow(total / C(sum[h]), a.out[(row * a.sizes.heads + first_head) * hd + i]);
    }
  }
}

template <typename T>
Parts<Compute<T>> parts_of(const DecodeArgs<T>& a) {
  Parts<Compute<T>> parts;
  parts.chunks = chunk_count(a);
  const int64_t size = a.rows * a.sizes.heads * parts.chunks;
  parts.top = static_cast<Compute<T>*>(a.workspace);
  parts.sum = parts.top + size;
  parts.values = parts.sum + size;
  return parts;
}

template <typename T, int kGroup>
cudaError_t launch_attend(const DecodeArgs<T>& a, const Parts<Compute<T>>& parts,
                          cudaStream_t stream) {
  const int64_t vectors = a.sizes.head_dim / kVectorWidth<T>;
  int lanes = 1;
  while (lanes < vectors) lanes *= 2;
  const int pieces = static_cast<int>((a.sizes.group() + kGroup - 1) / kGroup);
  const size_t shared = (1 + kWarps) * kGroup * a.sizes.head_dim * sizeof(Compute<T>);
  return device::launch(attend_kernel<T, kGroup>, a.rows * a.sizes.kv_heads * pieces * parts.chunks,
                        kThreads, shared, stream, a, parts, pieces, lanes);
}

template <typename T>
cudaError_t launch_attend_best(const DecodeArgs<T>& a, const Parts<Compute<T>>& parts,
                               cudaStream_t stream) {
  if constexpr (std::is_same_v<T, math::Bfloat16>) {
    if (decode_tiles_take(a)) return launch_decode_tiles(a, parts, stream);
  }
  const int64_t group = a.sizes.group();
  return group == 1  ? launch_attend<T, 1>(a, parts, stream)
         : group < 5 ? launch_attend<T, 4>(a, parts, stream)
                     : launch_attend<T, 8>(a, parts, stream);
}

}  // namespace

template <typename T>
bool decode_takes(const DecodeArgs<T>& a) {
  constexpr int E = kVectorWidth<T>;
  return a.sizes.head_dim % (2 * E) == 0 && a.sizes.head_dim / E <= kWarp &&
         device::is_aligned<E>(a.k_cache) && device::is_aligned<E>(a.v_cache);
}

template <typename T>
size_t decode_workspace_bytes(const DecodeArgs<T>& a) {
  return a.rows * a.sizes.heads * chunk_count(a) * (2 + a.sizes.head_dim) * sizeof(Compute<T>);
}

template <typename T>
cudaError_t launch_decode_attention(const DecodeArgs<T>& a, cudaStream_t stream) {
  if (!decode_takes(a)) return cudaErrorInvalidValue;
  cudaError_t error = launch_enter_cache(a, stream);
  if (error != cudaSuccess) return error;
  const Parts<Compute<T>> parts = parts_of(a);
  error = launch_attend_best(a, parts, stream);
  if (error != cudaSuccess || parts.chunks <= 1) return error;
  return device::launch(combine_kernel<T>, a.rows * a.sizes.heads, kThreads, 0, stream, a, parts);
}

#define HONE_INSTANTIATE(T)                                     \
  template bool decode_takes(const DecodeArgs<T>&);             \
  template size_t decode_workspace_bytes(const DecodeArgs<T>&); \
  template cudaError_t launch_decode_attention(const DecodeArgs<T>&, cudaStream_t);
HONE_INSTANTIATE(float)
HONE_INSTANTIATE(double)
HONE_INSTANTIATE(math::Bfloat16)
#undef HONE_INSTANTIATE

}  // namespace hone::kernels::cuda
