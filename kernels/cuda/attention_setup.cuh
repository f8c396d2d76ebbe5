#pragma once

// What attention needs before its tiles (attention_prepare.cu): rotated heads where many tiles read
// them, and which tile of queries belongs to which sequence.

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/attention_launchers.h"
#include "kernels/device/primitives.h"
#include "kernels/math/rope.h"

namespace hone::kernels::cuda {

struct Prepared {
  int64_t* prefix;          // [sequences+1] tiles before each sequence
  math::Bfloat16* rotated;  // [tokens, width]: `heads` heads from `first` on (queries, then keys)
  int64_t width;            // heads * head_dim
  int first, heads;
  int tile;  // queries a tile
};

/// What `workspace` holds for a tile of `tile` queries and the given heads.
inline Prepared prepared(const AttentionArgs& a, void* workspace, int64_t first, int64_t heads,
                         int tile) {
  Prepared p;
  p.width = heads * a.sizes.head_dim;
  p.rotated = static_cast<math::Bfloat16*>(workspace);
  // head_dim is a multiple of 16: the end of `rotated` is aligned to 16 bytes.
  p.prefix = reinterpret_cast<int64_t*>(p.rotated + a.tokens * p.width);
  p.first = static_cast<int>(first);
  p.heads = static_cast<int>(heads);
  p.tile = tile;
  return p;
}

/// A multiple of 16.
inline size_t prepared_bytes(const AttentionArgs& a, int64_t heads) {
  const size_t prefix = (a.sequences + 1) * sizeof(int64_t);
  return a.tokens * heads * a.sizes.head_dim * sizeof(math::Bfloat16) + (prefix + 15) / 16 * 16;
}

/// No less than the tiles of all sequences, from what the host knows.
inline int64_t tile_bound(const AttentionArgs& a, int tile) {
  return a.tokens / tile + a.sequences;
}

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

/// cos and sin of eight neighbouring columns of one position.
struct Angles {
  float cosine[8], sine[8];
};
HONE_DEVICE Angles angles_at(const AttentionArgs& a, int64_t at) {
  Angles out;
  HONE_UNROLL
  for (int i = 0; i < 8; i += 4) {
    const auto c = device::load_vector<4>(a.cos, at + i), s = device::load_vector<4>(a.sin, at + i);
    HONE_UNROLL
    for (int e = 0; e < 4; ++e) {
      out.cosine[i + e] = c[e];
      out.sine[i + e] = s[e];
    }
  }
  return out;
}

using EightElements = device::Vector<math::Bfloat16, 8>;

/// Turns eight columns of the first half of a head with those of the second; rounds once.
HONE_DEVICE void rotate_eight(EightElements& first, EightElements& second, const Angles& angles) {
  HONE_UNROLL
  for (int e = 0; e < 8; ++e) {
    float x = math::widen(first[e]), y = math::widen(second[e]);
    math::rope_rotate(x, y, angles.cosine[e], angles.sine[e]);
    math::narrow(x, first[e]);
    math::narrow(y, second[e]);
  }
}

struct Tile {
  int64_t begin;  // first token of the sequence
  int first;      // position in the sequence of the first row
  int rows;       // 1 to Prepared::tile; 0: there is no such tile
  int length;     // of the sequence
};

HONE_DEVICE Tile tile_at(const AttentionArgs& a, const Prepared& p, int64_t index) {
  if (index >= p.prefix[a.sequences]) return {0, 0, 0, 0};
  const int64_t sequence = last_at_most(p.prefix, a.sequences, index);
  const int64_t begin = a.cu_seqlens[sequence];
  const int length = static_cast<int>(a.cu_seqlens[sequence + 1] - begin);
  const int first = static_cast<int>(index - p.prefix[sequence]) * p.tile;
  return {begin, first, std::min(length - first, p.tile), length};
}

cudaError_t launch_preparation(const AttentionArgs& a, const Prepared& p, cudaStream_t stream);

}  // namespace hone::kernels::cuda
