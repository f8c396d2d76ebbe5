// Gradients of the keys and values of packed causal attention, on tensor cores: bfloat16 operands,
// float32 sums (FlashAttention-2's equations, Dao 2023).
//
//   keys_backward_kernel  a block a (tile of 128 keys of one sequence, or half of one at head_dim
//                         128; kv head): every query that sees them, of every head of the group
//
// after the two kernels of attention_queries_backward.cu. Products are of keys by queries, so that
// what a lane holds of probabilities and of their gradients is its operand of the sums over the
// queries. 4 warps take 32 keys each (16 at head_dim 128); 64 queries a step (32 at 64), with their
// gradients, log-sums and deltas, copied asynchronously during the step before. The order of the
// sums is that of heads and queries: no atomics, the same bits every time.
// Registers: 128 of the two gradients at head_dim 64 and 128; 64 of scores and of their gradients.
// 2 blocks an SM.

#include <algorithm>

#include "kernels/cuda/attention_gradients.cuh"

namespace hone::kernels::cuda {
namespace {

using device::MatrixD;
using device::SharedView;
using math::Bfloat16;

constexpr int kThreads = 128, kWarps = kThreads / device::kWarp;
template <int D>
constexpr int kOfWarp = D > 64 ? 16 : 32;  // keys
template <int D>
constexpr int kKeys = kWarps* kOfWarp<D>;  // a block
template <int D>
constexpr int kQueries = D == 64 ? 32 : 64;  // a step
template <int D>
constexpr int kElements = (2 * kKeys<D> + 4 * kQueries<D>)*kPitch<D>;

/// log_sum and delta of the queries of a step, 16 bytes a thread.
template <int kCount>
HONE_DEVICE void copy_statistics(const RowStatistics& rows, int64_t at, SharedView<float> to) {
  const int i = device::thread_index();
  if (i >= 2 * kCount / 4) return;
  const float* from = i < kCount / 4 ? rows.log_sum : rows.delta;
  device::copy_async(to, 4 * i, from + at + 4 * i % kCount, true);
}

template <int D>
HONE_KERNEL_RESIDENT(kThreads, 2)
keys_backward_kernel(Gradients x) {
  constexpr int kColumns = D / 8, kKeyTiles = kOfWarp<D> / 16, kStep = kQueries<D>;
  constexpr int kQueryTiles = kStep / 8, kParts = kGradientRows / kKeys<D>;
  const AttentionArgs& a = x.args.forward;
  const Prepared& p = x.prepared;
  const int heads = static_cast<int>(a.sizes.heads), kv_heads = static_cast<int>(a.sizes.kv_heads);
  const int kv_head = static_cast<int>(device::block_index() % kv_heads);
  // The first tiles of a sequence are seen by the most queries: they start first.
  const int64_t part = device::block_index() / kv_heads, index = part / kParts;
  const Tile tile = tile_at(a, p, index);
  const int begin = tile.first + static_cast<int>(part % kParts) * kKeys<D>;  // first key
  const int length = tile.length;
  if (tile.rows <= 0 || begin >= length) return;  // the whole block

  const TileView keys = device::dynamic_shared<Bfloat16>(0, kElements<D>);
  const TileView values = keys + kKeys<D> * kPitch<D>;
  const TileView tiles = values + kKeys<D> * kPitch<D>;  // queries and gradients of two stages
  constexpr int kTileElements = kStep * kPitch<D>;
  const auto statistics =
      device::dynamic_shared<float>(kElements<D> * sizeof(Bfloat16), 2 * 2 * kStep);
  const int window = a.sizes.window > 0 && a.sizes.window < length ? int(a.sizes.window) : length;
  const int end = std::min(length, begin + kKeys<D> - 1 + window);  // of the queries that see them
  const int first_head = kv_head * (heads / kv_heads), end_head = first_head + heads / kv_heads;
  const auto start_copies = [&](int head, int query, int stage) {
    const TileView to = tiles + 2 * stage * kTileElements;
    copy_tile<D, kStep, kThreads>(p.rotated + tile.begin * p.width + head * D,
                                  static_cast<int>(p.width), query, length, to);
    copy_tile<D, kStep, kThreads>(x.args.grad + tile.begin * heads * D + head * D, heads * D, query,
                                  length, to + kTileElements);
    copy_statistics<kStep>(x.rows,
                           head * x.rows.stride + index * kGradientRows + query - tile.first,
                           statistics + 2 * stage * kStep);
    device::copy_async_commit();
  };
  copy_tile<D, kKeys<D>, kThreads>(p.rotated + tile.begin * p.width + (heads + kv_head) * D,
                                   static_cast<int>(p.width), begin, length, keys);
  copy_tile<D, kKeys<D>, kThreads>(
      a.qkv + tile.begin * a.sizes.width() + (heads + kv_heads + kv_head) * D, a.sizes.width(),
      begin, length, values);
  int head = first_head, query = begin;
  start_copies(head, query, 0);

  const int row = device::warp_index() * kOfWarp<D>, first = begin + row;  // this warp's keys
  const int last = std::min(first + kOfWarp<D>, length) - 1;  // below `first`: it has none
  const int g = device::lane() / 4, t = device::lane() % 4;
  const float scale = static_cast<float>(a.sizes.scale) * kLog2E<float>;
  MatrixD of_keys[kKeyTiles][kColumns] = {}, of_values[kKeyTiles][kColumns] = {};
  for (int stage = 0; head < end_head; stage ^= 1) {
    const int at_query = query;
    query += kStep;
    if (query >= end) {
      query = begin;
      ++head;
    }
    device::copy_async_wait<0>();
    device::barrier();  // this step's tiles are there, those of the step before no longer read
    if (head < end_head) start_copies(head, query, stage ^ 1);
    const int last_query = at_query + kStep - 1;
    if (first > last || last_query < first || at_query >= last + window) continue;
    const bool whole = at_query >= first + kOfWarp<D> - 1 && last_query < first + window;
    const TileView queries = tiles + 2 * stage * kTileElements;
    const TileView gradients = queries + kTileElements;
    const auto log_sum = statistics + 2 * stage * kStep, delta = log_sum + kStep;

    MatrixD weight[kKeyTiles][kQueryTiles] = {}, of_score[kKeyTiles][kQueryTiles] = {};
    multiply_rows<D>(weight, keys, row, queries);
    HONE_UNROLL
    for (int n = 0; n < kQueryTiles; ++n) {
      const auto sums = device::load_vector<2>(log_sum, 8 * n + 2 * t);
      HONE_UNROLL
      for (int i = 0; i < kKeyTiles; ++i) {
        HONE_UNROLL
        for (int e = 0; e < 4; ++e) {
          float& w = weight[i][n].value[e];
          w = device::exp2_approximate(w * scale - sums[e % 2]);
        }
      }
    }
    if (!whole) {
      HONE_UNROLL
      for (int i = 0; i < kKeyTiles; ++i) {
        HONE_UNROLL
        for (int n = 0; n < kQueryTiles; ++n) {
          HONE_UNROLL
          for (int e = 0; e < 4; ++e) {  // how far the query lies behind the key
            const int behind = at_query - first + 8 * n + 2 * t + e % 2 - 16 * i - g - e / 2 * 8;
            if (behind < 0 || behind >= window) weight[i][n].value[e] = 0.0f;
          }
        }
      }
    }
    multiply_weights<D>(of_values, weight, gradients);
    multiply_rows<D>(of_score, values, row, gradients);
    HONE_UNROLL
    for (int n = 0; n < kQueryTiles; ++n) {
      const auto deltas = device::load_vector<2>(delta, 8 * n + 2 * t);
      HONE_UNROLL
      for (int i = 0; i < kKeyTiles; ++i) {
        HONE_UNROLL
        for (int e = 0; e < 4; ++e) {
          float& s = of_score[i][n].value[e];
          s = weight[i][n].value[e] * (s - deltas[e % 2]);
        }
      }
    }
    multiply_weights<D>(of_keys, of_score, queries);
  }

  // Through the places of the warp's own keys and values, so that a lane stores 16 bytes.
  device::warp_barrier();
  place_turned_back<D>(a, of_keys, static_cast<float>(a.sizes.scale), first, length, keys, row);
  HONE_UNROLL
  for (int r = 0; r < 2 * kKeyTiles; ++r) {
    HONE_UNROLL
    for (int c = 0; c < kColumns; ++c) {
      const float* v = of_values[r / 2][c].value + r % 2 * 2;
      place_two<D>(values, row + 8 * r + g, 8 * c + 2 * t, v[0], v[1]);
    }
  }
  device::warp_barrier();
  Bfloat16* to = x.args.d_qkv + (tile.begin + first) * a.sizes.width() + (heads + kv_head) * D;
  store_rows<D>(keys, row, last - first + 1, to, a.sizes.width());
  store_rows<D>(values, row, last - first + 1, to + int64_t{kv_heads} * D, a.sizes.width());
}

template <int D>
cudaError_t launch_tiles(const Gradients& x, cudaStream_t stream) {
  const AttentionArgs& a = x.args.forward;
  constexpr int kParts = kGradientRows / kKeys<D>;
  constexpr size_t kBytes = kElements<D> * sizeof(Bfloat16) + 2 * 2 * kQueries<D> * sizeof(float);
  return device::launch(keys_backward_kernel<D>,
                        tile_bound(a, kGradientRows) * kParts * a.sizes.kv_heads, kThreads, kBytes,
                        stream, x);
}

}  // namespace

cudaError_t launch_keys_backward(const Gradients& x, cudaStream_t stream) {
  switch (x.args.forward.sizes.head_dim) {
    case 16:
      return launch_tiles<16>(x, stream);
    case 32:
      return launch_tiles<32>(x, stream);
    case 64:
      return launch_tiles<64>(x, stream);
    default:
      return launch_tiles<128>(x, stream);
  }
}

}  // namespace hone::kernels::cuda
