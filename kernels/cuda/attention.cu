// Causal attention of packed sequences, forward, on tensor cores: bfloat16 operands, float32 sums
// (FlashAttention-2's loop, Dao 2023; online softmax, Milakov & Gimelshein 2018).
//
//   attend_tiles_kernel  a block a (tile of 64 queries of one sequence, head)
//
// after the two kernels of attention_setup.cuh. Tiles begin with their sequence, so a sequence has
// the same bits wherever it is packed. 4 warps take 16 queries each, the height of one product. 64
// keys a step need 36 KB of shared memory at head_dim 128; registers allow 2 blocks an SM there, 3
// or more below, which cover each other's barriers. Rows of shared memory are 8 elements longer
// than needed: then the 32 words of an operand lie in 32 banks. Values are turned on the way in,
// because an operand's word is two neighbours in the direction of the sum, here two keys.
//
// Registers at head_dim 128: 64 of the output, 32 of the queries, 32 of the scores.
// Work: 2 products of 2*64*64*head_dim FLOP a pair of tiles; a pair above the diagonal or out of
// the window is not visited. Not used: asynchronous copies, wgmma.

#include <algorithm>
#include <cmath>

#include "kernels/cuda/attention_setup.cuh"

namespace hone::kernels::cuda {
namespace {

using device::MatrixA;
using device::MatrixB;
using device::MatrixD;
using device::SharedView;
using device::Vector;

constexpr int kThreads = 128;
constexpr int kKeys = kTile;  // keys a step
constexpr float kLog2E = 1.44269504f;

template <int D>
constexpr int kKeyWords = D / 2 + 4;        // of one key in shared memory
constexpr int kValueWords = kKeys / 2 + 4;  // of one column of the values

HONE_DEVICE uint32_t word_of(math::Bfloat16 low, math::Bfloat16 high) {
  return low.bits | static_cast<uint32_t>(high.bits) << 16;
}

/// Keys [begin, begin+64) as rows, values as columns of pairs of keys; zeros from `end` on.
template <int D>
HONE_DEVICE void load_tiles(const AttentionArgs& a, const Prepared& p, int64_t kv_head,
                            int64_t begin, int64_t end, SharedView<uint32_t> keys,
                            SharedView<uint32_t> values) {
  using Eight = Vector<math::Bfloat16, 8>;
  constexpr int kVectors = D / 8;
  const math::Bfloat16* k = p.rotated + (a.sizes.heads + kv_head) * D;
  const math::Bfloat16* v = a.qkv + (a.sizes.heads + a.sizes.kv_heads + kv_head) * D;
  const auto load = [&](const math::Bfloat16* x, int64_t width, int64_t key, int column) {
    return key < end ? device::load_vector<8>(x, key * width + column) : Eight{};
  };
  for (int i = device::thread_index(); i < kKeys * kVectors; i += kThreads) {
    const int row = i / kVectors, column = i % kVectors * 8;
    const Eight x = load(k, p.width, begin + row, column);
    Vector<uint32_t, 4> words;
    HONE_UNROLL
    for (int w = 0; w < 4; ++w) words[w] = word_of(x[2 * w], x[2 * w + 1]);
    device::store_vector(keys, row * kKeyWords<D> + column / 2, words);
  }
  // Neighbouring lanes take neighbouring pairs of keys: their words lie in neighbouring banks.
  for (int i = device::thread_index(); i < kKeys / 2 * kVectors; i += kThreads) {
    const int pair = i % (kKeys / 2), column = i / (kKeys / 2) * 8;
    const Eight x = load(v, a.sizes.width(), begin + 2 * pair, column);
    const Eight y = load(v, a.sizes.width(), begin + 2 * pair + 1, column);
    HONE_UNROLL
    for (int e = 0; e < 8; ++e) values[(column + e) * kValueWords + pair] = word_of(x[e], y[e]);
  }
}

/// Rows 8n.. of a tile of words, columns 16k..: an operand B (transposed, as it is stored).
HONE_DEVICE MatrixB operand(const SharedView<uint32_t>& tile, int words, int n, int k) {
  const int at = (8 * n + device::lane() / 4) * words + 8 * k + device::lane() % 4;
  return {{tile[at], tile[at + 4]}};
}

template <int D>
HONE_KERNEL_RESIDENT(kThreads, D < 128 ? 3 : 2)
attend_tiles_kernel(AttentionArgs a, Prepared p) {
  constexpr int kSteps = D / 16, kColumns = D / 8, kRowsOfKeys = kKeys / 8;
  const int heads = static_cast<int>(a.sizes.heads);
  const int head = static_cast<int>(device::block_index() % heads);
  // The last tiles of a sequence see the most keys: they start first.
  const Tile tile =
      tile_at(a, p, device::grid_blocks() / heads - 1 - device::block_index() / heads);
  if (tile.queries <= 0) return;  // the whole block

  HONE_SHARED(uint32_t, keys, kKeys * kKeyWords<D>);
  HONE_SHARED(uint32_t, values, D * kValueWords);

  // This lane's rows of the warp's 16: g and g + 8; positions in the sequence.
  const int g = device::lane() / 4, t = device::lane() % 4;
  const int64_t first = tile.first + device::warp_index() * 16,
                last = tile.first + tile.queries - 1;
  const int64_t row[2] = {first + g, first + g + 8};
  MatrixA query[kSteps];
  const math::Bfloat16* q = p.rotated + tile.begin * p.width + head * D;
  HONE_UNROLL
  for (int k = 0; k < kSteps; ++k) {
    HONE_UNROLL
    for (int w = 0; w < 4; ++w) {
      const int64_t at = row[w % 2] * p.width + 16 * k + w / 2 * 8 + 2 * t;
      query[k].word[w] = row[w % 2] <= last ? word_of(q[at], q[at + 1]) : 0u;
    }
  }
  MatrixD out[kColumns] = {};
  float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0.0f, 0.0f};
  const float scale = static_cast<float>(a.sizes.scale) * kLog2E;

  for (int64_t key = a.sizes.first_key(tile.first) / kKeys * kKeys; key <= last; key += kKeys) {
    device::barrier();  // the tiles of the step before are no longer read
    load_tiles<D>(a, p, head / a.sizes.group(), tile.begin + key, tile.begin + last + 1, keys,
                  values);
    device::barrier();

    MatrixD score[kRowsOfKeys] = {};
    HONE_UNROLL
    for (int n = 0; n < kRowsOfKeys; ++n) {
      HONE_UNROLL
      for (int k = 0; k < kSteps; ++k) {
        device::multiply_add(score[n], query[k], operand(keys, kKeyWords<D>, n, k));
      }
    }
    float higher[2] = {top[0], top[1]};
    HONE_UNROLL
    for (int n = 0; n < kRowsOfKeys; ++n) {
      HONE_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int64_t at = key + 8 * n + 2 * t + i % 2, query_at = row[i / 2];
        const bool seen = at <= query_at && at >= a.sizes.first_key(query_at);
        float& s = score[n].value[i];
        s = seen ? s * scale : -INFINITY;
        higher[i / 2] = std::max(higher[i / 2], s);
      }
    }
    HONE_UNROLL
    for (int r = 0; r < 2; ++r) {
      higher[r] = std::max(higher[r], device::shuffle_xor(higher[r], 1));
      higher[r] = std::max(higher[r], device::shuffle_xor(higher[r], 2));
      // A row that has seen no key yet keeps its zeros.
      const float base = higher[r] == -INFINITY ? 0.0f : higher[r];
      const float shrink = std::exp2(top[r] - base);
      top[r] = higher[r];
      sum[r] *= shrink;
      HONE_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        out[c].value[2 * r] *= shrink;
        out[c].value[2 * r + 1] *= shrink;
      }
      HONE_UNROLL
      for (int n = 0; n < kRowsOfKeys; ++n) {
        HONE_UNROLL
        for (int i = 2 * r; i < 2 * r + 2; ++i) {
          score[n].value[i] = std::exp2(score[n].value[i] - base);
          sum[r] += score[n].value[i];
        }
      }
    }
    // What a lane holds of two neighbouring results is what it must hold of the next operand.
    HONE_UNROLL
    for (int k = 0; k < kKeys / 16; ++k) {
      const float* left = score[2 * k].value;
      const float* right = score[2 * k + 1].value;
      const MatrixA weight{
          {device::pack_bfloat16(left[0], left[1]), device::pack_bfloat16(left[2], left[3]),
           device::pack_bfloat16(right[0], right[1]), device::pack_bfloat16(right[2], right[3])}};
      HONE_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        device::multiply_add(out[c], weight, operand(values, kValueWords, c, k));
      }
    }
  }

  HONE_UNROLL
  for (int r = 0; r < 2; ++r) {
    sum[r] += device::shuffle_xor(sum[r], 1);
    sum[r] += device::shuffle_xor(sum[r], 2);
    if (row[r] > last) continue;
    const int64_t token = tile.begin + row[r];
    const float inverse = 1.0f / sum[r];
    math::Bfloat16* to = a.out + token * heads * D + head * D + 2 * t;
    HONE_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      math::narrow(out[c].value[2 * r] * inverse, to[8 * c]);
      math::narrow(out[c].value[2 * r + 1] * inverse, to[8 * c + 1]);
    }
    if (t == 0) a.lse[head * a.tokens + token] = (top[r] + std::log2(sum[r])) / kLog2E;
  }
}

template <int D>
cudaError_t launch_tiles(const AttentionArgs& a, const Prepared& p, cudaStream_t stream) {
  return device::launch(attend_tiles_kernel<D>, tile_bound(a) * a.sizes.heads, kThreads, 0, stream,
                        a, p);
}

}  // namespace

bool attention_takes(const AttentionArgs& a) {
  const int64_t d = a.sizes.head_dim;
  return (d == 16 || d == 32 || d == 64 || d == 128) && device::is_aligned<8>(a.qkv);
}

size_t attention_workspace_bytes(const AttentionArgs& a) { return prepared_bytes(a); }

cudaError_t launch_attention(const AttentionArgs& a, cudaStream_t stream) {
  if (!attention_takes(a)) return cudaErrorInvalidValue;
  if (a.tokens == 0) return cudaSuccess;
  const Prepared p = prepared(a);
  const cudaError_t error = launch_preparation(a, p, stream);
  if (error != cudaSuccess) return error;
  switch (a.sizes.head_dim) {
    case 16:
      return launch_tiles<16>(a, p, stream);
    case 32:
      return launch_tiles<32>(a, p, stream);
    case 64:
      return launch_tiles<64>(a, p, stream);
    default:
      return launch_tiles<128>(a, p, stream);
  }
}

}  // namespace hone::kernels::cuda
