#pragma once

// What attention needs before its tiles: queries and keys rotated once, and which tile of 64
// queries belongs to which sequence.
//
//   rotate_kernel       a block a token: 4 bytes of traffic an element, once for all tiles that
//   read it tile_prefix_kernel  one block: tiles before each sequence

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/attention_launchers.h"
#include "kernels/device/collectives.h"
#include "kernels/math/rope.h"

namespace hone::kernels::cuda {

constexpr int kTile = 64;  // queries a block
constexpr int kSetupThreads = 256;

struct Prepared {
  int64_t* prefix;          // [sequences+1] tiles before each sequence
  math::Bfloat16* rotated;  // [tokens, width]: queries, then keys
  int64_t width;            // (heads + kv_heads) * head_dim
};

inline Prepared prepared(const AttentionArgs& a) {
  Prepared p;
  p.width = (a.sizes.heads + a.sizes.kv_heads) * a.sizes.head_dim;
  p.rotated = static_cast<math::Bfloat16*>(a.workspace);
  // head_dim is a multiple of 16: the end of `rotated` is aligned to 8 bytes.
  p.prefix = reinterpret_cast<int64_t*>(p.rotated + a.tokens * p.width);
  return p;
}

inline size_t prepared_bytes(const AttentionArgs& a) {
  return a.tokens * (a.sizes.heads + a.sizes.kv_heads) * a.sizes.head_dim * sizeof(math::Bfloat16) +
         (a.sequences + 1) * sizeof(int64_t);
}

/// No less than the tiles of all sequences, from what the host knows.
inline int64_t tile_bound(const AttentionArgs& a) { return a.tokens / kTile + a.sequences; }

/// The last index whose entry is at most x; entries never fall and the first is at most x.
HONE_DEVICE int64_t last_at_most(const int64_t* entries, int64_t count, int64_t x) {
  int64_t low = 0, high = count;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    if (entries[middle] <= x) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

inline HONE_KERNEL(kSetupThreads) rotate_kernel(AttentionArgs a, Prepared p) {
  const int64_t token = device::block_index();
  const int64_t sequence = last_at_most(a.cu_seqlens, a.sequences, token);
  const int half = static_cast<int>(a.sizes.head_dim / 2);
  const int64_t angle = (token - a.cu_seqlens[sequence]) * half;
  const int pairs = static_cast<int>(a.sizes.heads + a.sizes.kv_heads) * half;
  for (int i = device::thread_index(); i < pairs; i += kSetupThreads) {
    const int column = i % half;
    const int64_t at = int64_t{i / half} * a.sizes.head_dim + column;
    const math::Bfloat16* from = a.qkv + token * a.sizes.width() + at;
    float first = math::widen(from[0]), second = math::widen(from[half]);
    math::rope_rotate(first, second, a.cos[angle + column], a.sin[angle + column]);
    math::Bfloat16* to = p.rotated + token * p.width + at;
    math::narrow(first, to[0]);
    math::narrow(second, to[half]);
  }
}

inline HONE_KERNEL(kSetupThreads) tile_prefix_kernel(AttentionArgs a, Prepared p) {
  int64_t before = 0;
  for (int64_t base = 0; base < a.sequences; base += kSetupThreads) {
    const int64_t s = base + device::thread_index();
    const int64_t tiles =
        s < a.sequences ? (a.cu_seqlens[s + 1] - a.cu_seqlens[s] + kTile - 1) / kTile : 0;
    const auto scan = device::block_scan<kSetupThreads>(tiles, int64_t{0}, device::Add{});
    if (s < a.sequences) p.prefix[s] = before + scan.before;
    before += scan.total;
  }
  if (device::thread_index() == 0) p.prefix[a.sequences] = before;
}

struct Tile {
  int64_t begin;  // first token of the sequence
  int64_t first;  // position in the sequence of the first query
  int queries;    // 1 to kTile; 0: there is no such tile
};

HONE_DEVICE Tile tile_at(const AttentionArgs& a, const Prepared& p, int64_t index) {
  if (index >= p.prefix[a.sequences]) return {0, 0, 0};
  const int64_t sequence = last_at_most(p.prefix, a.sequences, index);
  const int64_t begin = a.cu_seqlens[sequence], first = (index - p.prefix[sequence]) * kTile;
  const int64_t left = a.cu_seqlens[sequence + 1] - begin - first;
  return {begin, first, static_cast<int>(std::min<int64_t>(left, kTile))};
}

inline cudaError_t launch_preparation(const AttentionArgs& a, const Prepared& p,
                                      cudaStream_t stream) {
  const cudaError_t error = device::launch(rotate_kernel, a.tokens, kSetupThreads, 0, stream, a, p);
  if (error != cudaSuccess) return error;
  return device::launch(tile_prefix_kernel, 1, kSetupThreads, 0, stream, a, p);
}

}  // namespace hone::kernels::cuda
