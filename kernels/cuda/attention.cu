// Causal attention of packed sequences, forward, on tensor cores: bfloat16 operands, float32 sums
// (FlashAttention-2's loop, Dao 2023; online softmax, Milakov & Gimelshein 2018).
//
//   attend_tiles_kernel  a block a (tile of 128 queries of one sequence, head)
//
// after prepare_kernel of attention_setup.cuh, which rotates the keys; queries are rotated on their
// way in, each once. Tiles begin with their sequence, so a sequence has the same bits wherever it
// is packed. 4 warps take 32 queries each: two products for every operand that they read of keys
// and values, without which shared memory would be slower than the tensor cores. 64 keys a step,
// copied asynchronously while the step before is computed: two stages of keys and values, 102 KB
// with the queries at head_dim 128; registers allow 2 blocks an SM.
//
// A row's maximum is moved, and its sums scaled, only when a score exceeds it by 2^8: the weights
// stay below 2^8 and the result is the same, and most steps have no exchange between lanes. At
// head_dim 128 it is moved in every step: there the registers of the other branch cost more.
// Registers at head_dim 128: 128 of the output, 64 of the scores.
// Work: 2 products of 2*32*64*head_dim FLOP a (warp, step) that has a visible pair.

#include <algorithm>
#include <cmath>

#include "kernels/cuda/attention_setup.cuh"
#include "kernels/cuda/attention_tiles.cuh"
#include "kernels/cuda/softmax_sums.cuh"

namespace hone::kernels::cuda {
namespace {

using device::MatrixD;

constexpr int kThreads = 128;
constexpr int kQueries = 128;  // a block
constexpr int kOfWarp = 32;    // of them
constexpr int kKeys = 64;      // a step
constexpr int kRowTiles = kOfWarp / 16;
constexpr int kRows = 2 * kRowTiles;  // queries that a lane holds results of
constexpr float kBelowAll = -1e30f;
constexpr float kSlack = 8.0f;  // powers of two that a score may lie above the row's maximum

template <int D>
constexpr int kElements = (kQueries + 4 * kKeys) * kPitch<D>;  // of shared memory

/// The queries of a tile, rotated, as rows; zeros behind them.
template <int D>
HONE_DEVICE void load_queries(const AttentionArgs& a, const Tile& tile, int head,
                              const TileView& queries) {
  constexpr int kPieces = D / 16;
  const math::Bfloat16* q = a.qkv + (tile.begin + tile.first) * a.sizes.width() + head * D;
  for (int i = device::thread_index(); i < kQueries * kPieces; i += kThreads) {
    const int row = i / kPieces, column = i % kPieces * 8;
    EightElements first{}, second{};
    if (row < tile.rows) {
      first = device::load_vector<8>(q, row * a.sizes.width() + column);
      second = device::load_vector<8>(q, row * a.sizes.width() + column + D / 2);
      rotate_eight(first, second, angles_at(a, int64_t{tile.first + row} * (D / 2) + column));
    }
    device::store_vector(queries, row * kPitch<D> + column, first);
    device::store_vector(queries, row * kPitch<D> + column + D / 2, second);
  }
}

template <int D>
HONE_KERNEL_RESIDENT(kThreads, 2)
attend_tiles_kernel(AttentionArgs a, Prepared p) {
  constexpr int kColumns = D / 8, kKeyTiles = kKeys / 8;
  const int heads = static_cast<int>(a.sizes.heads);
  const int head = static_cast<int>(device::block_index() % heads);
  // The last tiles of a sequence see the most keys: they start first.
  const Tile tile =
      tile_at(a, p, device::grid_blocks() / heads - 1 - device::block_index() / heads);
  if (tile.rows <= 0) return;  // the whole block

  const TileView queries = device::dynamic_shared<math::Bfloat16>(0, kElements<D>);
  const TileView tiles = queries + kQueries * kPitch<D>;  // keys and values of two stages
  constexpr int kTileElements = kKeys * kPitch<D>;
  const int kv_head = head / static_cast<int>(a.sizes.group());
  const math::Bfloat16* k = p.rotated + tile.begin * p.width + kv_head * D;
  const math::Bfloat16* v =
      a.qkv + tile.begin * a.sizes.width() + (a.sizes.heads + a.sizes.kv_heads + kv_head) * D;
  const int end = tile.first + tile.rows;  // of the keys, too
  const auto start_copies = [&](int key, int stage) {
    copy_tile<D, kKeys, kThreads>(k, p.width, key, end, tiles + 2 * stage * kTileElements);
    copy_tile<D, kKeys, kThreads>(v, a.sizes.width(), key, end,
                                  tiles + (2 * stage + 1) * kTileElements);
    device::copy_async_commit();
  };
  int key = static_cast<int>(a.sizes.first_key(tile.first)) / kKeys * kKeys;
  start_copies(key, 0);
  load_queries<D>(a, tile, head, queries);

  // This warp's queries, in the sequence, and those of which this lane holds results: 16i + 8h.
  const int row_in_tile = device::warp_index() * kOfWarp, first = tile.first + row_in_tile;
  const int last = std::min(first + kOfWarp, end) - 1;  // below `first`: the warp has none
  const int g = device::lane() / 4, t = device::lane() % 4;
  const int window = a.sizes.window > 0 && a.sizes.window < end ? int(a.sizes.window) : end;
  const float scale = static_cast<float>(a.sizes.scale) * kLog2E<float>,
              slack = D > 64 ? 0.0f : kSlack / scale;
  MatrixD out[kRowTiles][kColumns] = {};
  float top[kRows],
      sum[kRows];  // the largest score or up to kSlack below it; of this lane's weights
  HONE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    top[r] = kBelowAll;
    sum[r] = 0.0f;
  }

  for (int stage = 0; key < end; key += kKeys, stage ^= 1) {
    device::copy_async_wait<0>();
    device::barrier();  // this step's tiles are there, those of the step before no longer read
    if (key + kKeys < end) start_copies(key + kKeys, stage ^ 1);
    // Whether this warp sees any of the keys, and whether all its queries see all of them.
    if (first > last || key > last || key + kKeys - 1 <= first - window) continue;
    const bool whole = key + kKeys - 1 <= first && key > first + kOfWarp - 1 - window;
    const TileView keys = tiles + 2 * stage * kTileElements, values = keys + kTileElements;

    MatrixD score[kRowTiles][kKeyTiles] = {};
    multiply_rows<D>(score, queries, row_in_tile, keys);
    if (!whole) {
      hide_unseen(score, first - key, window, -INFINITY);
    }

    float most[kRows];
    bool rises = false;
    HONE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      most[r] = -INFINITY;
      HONE_UNROLL
      for (int n = 0; n < kKeyTiles; ++n) {
        const float* s = score[r / 2][n].value + r % 2 * 2;
        most[r] = std::fmax(most[r], std::fmax(s[0], s[1]));
      }
      rises = rises || most[r] > top[r] + slack;
    }
    if (D > 64 || device::ballot(rises) != 0) {
      HONE_UNROLL
      for (int r = 0; r < kRows; ++r) {
        most[r] = std::fmax(most[r], device::shuffle_xor(most[r], 1));
        most[r] = std::fmax(most[r], device::shuffle_xor(most[r], 2));
        // A row that does not rise is multiplied by 1: its bits do not depend on its neighbours.
        const bool moves = most[r] > top[r] + slack;
        const float shrink = moves ? device::exp2_approximate((top[r] - most[r]) * scale) : 1.0f;
        top[r] = moves ? most[r] : top[r];
        sum[r] *= shrink;
        HONE_UNROLL
        for (int c = 0; c < kColumns; ++c) {
          out[r / 2][c].value[r % 2 * 2] *= shrink;
          out[r / 2][c].value[r % 2 * 2 + 1] *= shrink;
        }
      }
    }
    HONE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const float base = top[r] * scale;
      HONE_UNROLL
      for (int n = 0; n < kKeyTiles; ++n) {
        HONE_UNROLL
        for (int e = r % 2 * 2; e < r % 2 * 2 + 2; ++e) {
          float& s = score[r / 2][n].value[e];
          s = device::exp2_approximate(s * scale - base);
          sum[r] += s;
        }
      }
    }
    multiply_weights<D>(out, score, values);
  }

  // Results pass through the place of the warp's own queries, so that a lane stores 16 bytes.
  device::warp_barrier();
  HONE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    sum[r] += device::shuffle_xor(sum[r], 1);
    sum[r] += device::shuffle_xor(sum[r], 2);
    const float inverse = 1.0f / sum[r];
    const int row = 8 * r + g;
    HONE_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const float* o = out[r / 2][c].value + r % 2 * 2;
      place_two<D>(queries, row_in_tile + row, 8 * c + 2 * t, o[0] * inverse, o[1] * inverse);
    }
    if (t == 0 && first + row <= last) {
      a.lse[head * a.tokens + tile.begin + first + row] =
          (top[r] * scale + std::log2(sum[r])) / kLog2E<float>;
    }
  }
  device::warp_barrier();
  store_rows<D>(queries, row_in_tile, last - first + 1,
                a.out + (tile.begin + first) * heads * D + head * D, int64_t{heads} * D);
}

template <int D>
cudaError_t launch_tiles(const AttentionArgs& a, const Prepared& p, cudaStream_t stream) {
  return device::launch(attend_tiles_kernel<D>, tile_bound(a, kQueries) * a.sizes.heads, kThreads,
                        kElements<D> * sizeof(math::Bfloat16), stream, a, p);
}

}  // namespace

bool attention_takes(const AttentionArgs& a) {
  const int64_t d = a.sizes.head_dim;
  return (d == 16 || d == 32 || d == 64 || d == 128) && device::is_aligned<8>(a.qkv) &&
         device::is_aligned<8>(a.out) && device::is_aligned<4>(a.cos) &&
         device::is_aligned<4>(a.sin);
}

size_t attention_workspace_bytes(const AttentionArgs& a) {
  return prepared_bytes(a, a.sizes.kv_heads);
}

cudaError_t launch_attention(const AttentionArgs& a, cudaStream_t stream) {
  if (!attention_takes(a)) return cudaErrorInvalidValue;
  if (a.tokens == 0) return cudaSuccess;
  const Prepared p = prepared(a, a.workspace, a.sizes.heads, a.sizes.kv_heads, kQueries);
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
