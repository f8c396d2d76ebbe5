// Gradients of the queries of packed causal attention, on tensor cores: bfloat16 operands, float32
// sums (FlashAttention-2's equations, Dao 2023). And what both halves of backward begin with.
//
//   row_statistics_kernel    a block 16 rows of a tile: log-sums in base 2, sums of gradient*output
//   queries_backward_kernel  a block a (tile of 128 queries of one sequence, head)
//
// Scores and probabilities are computed again here and in attention_keys_backward.cu: 7 products a
// pair of tiles where one kernel for all gradients needs 5, but every sum stays in one warp in a
// fixed order: no atomics, no partial gradients in memory, the same bits every time. 4 warps take
// 32 queries each; 32 keys a step, copied asynchronously during the step before. Registers at
// head_dim 128: 128 of the gradient, 32 each of scores and of their gradients. 2 blocks an SM.

#include <algorithm>
#include <cmath>

#include "kernels/cuda/attention_gradients.cuh"

namespace hone::kernels::cuda {
namespace {

using device::MatrixD;
using math::Bfloat16;

constexpr int kThreads = 128;
constexpr int kQueries = kGradientRows;
constexpr int kOfWarp = 32, kRowTiles = kOfWarp / 16, kRows = 2 * kRowTiles;
template <int D>
constexpr int kKeys = D > 32 ? 32 : 64;  // a step
template <int D>
constexpr int kElements = (2 * kQueries + 4 * kKeys<D>)*kPitch<D>;

constexpr int kStatisticsThreads = 256;
constexpr int kStatisticsRows = 16;  // a block

HONE_KERNEL(kStatisticsThreads) row_statistics_kernel(Gradients x) {
  constexpr int kParts = kGradientRows / kStatisticsRows;
  const AttentionArgs& a = x.args.forward;
  const int64_t index = device::block_index() / kParts;
  const Tile tile = tile_at(a, x.prepared, index);
  if (tile.rows <= 0) return;  // the whole block
  const int heads = static_cast<int>(a.sizes.heads), lanes = static_cast<int>(a.sizes.head_dim) / 8;
  const int first = static_cast<int>(device::block_index() % kParts) * kStatisticsRows;
  for (int i = device::thread_index(); i < kStatisticsRows * heads * lanes;
       i += kStatisticsThreads) {  // a multiple of 32: whole warps
    const int head = i / lanes % heads, row = first + i / lanes / heads;
    const bool there = row < tile.rows;
    const int64_t token = tile.begin + tile.first + row;
    float sum = 0.0f;
    if (there) {
      const int64_t at = (token * heads + head) * a.sizes.head_dim + i % lanes * 8;
      const auto gradient = device::load_vector<8>(x.args.grad, at);
      const auto out = device::load_vector<8>(static_cast<const Bfloat16*>(a.out), at);
      HONE_UNROLL
      for (int e = 0; e < 8; ++e) sum += math::widen(gradient[e]) * math::widen(out[e]);
    }
    for (int n = 1; n < lanes; n *= 2) sum += device::shuffle_xor(sum, n);
    if (i % lanes == 0) {
      const int64_t to = head * x.rows.stride + index * kGradientRows + row;
      x.rows.log_sum[to] = there ? a.lse[head * a.tokens + token] * kLog2E<float> : float{INFINITY};
      x.rows.delta[to] = sum;
    }
  }
}

template <int D>
HONE_KERNEL_RESIDENT(kThreads, 2)
queries_backward_kernel(Gradients x) {
  constexpr int kColumns = D / 8, kKeyTiles = kKeys<D> / 8;
  const AttentionArgs& a = x.args.forward;
  const Prepared& p = x.prepared;
  const int heads = static_cast<int>(a.sizes.heads), kv_heads = static_cast<int>(a.sizes.kv_heads);
  const int head = static_cast<int>(device::block_index() % heads);
  const int kv_head = head / (heads / kv_heads);
  // The last tiles of a sequence see the most keys: they start first.
  const int64_t index = device::grid_blocks() / heads - 1 - device::block_index() / heads;
  const Tile tile = tile_at(a, p, index);
  if (tile.rows <= 0) return;  // the whole block

  const TileView queries = device::dynamic_shared<Bfloat16>(0, kElements<D>);
  const TileView gradients = queries + kQueries * kPitch<D>;
  const TileView tiles = gradients + kQueries * kPitch<D>;  // keys and values of two stages
  constexpr int kTileElements = kKeys<D> * kPitch<D>;
  const Bfloat16* k = p.rotated + tile.begin * p.width + (heads + kv_head) * D;
  const Bfloat16* v = a.qkv + tile.begin * a.sizes.width() + (heads + kv_heads + kv_head) * D;
  const int end = tile.first + tile.rows;
  const auto start_copies = [&](int key, int stage) {
    copy_tile<D, kKeys<D>, kThreads>(k, p.width, key, end, tiles + 2 * stage * kTileElements);
    copy_tile<D, kKeys<D>, kThreads>(v, a.sizes.width(), key, end,
                                     tiles + (2 * stage + 1) * kTileElements);
    device::copy_async_commit();
  };
  copy_tile<D, kQueries, kThreads>(p.rotated + tile.begin * p.width + head * D, p.width, tile.first,
                                   end, queries);
  copy_tile<D, kQueries, kThreads>(x.args.grad + tile.begin * heads * D + head * D,
                                   int64_t{heads} * D, tile.first, end, gradients);
  int key = static_cast<int>(a.sizes.first_key(tile.first)) / kKeys<D> * kKeys<D>;
  start_copies(key, 0);

  const int row_in_tile = device::warp_index() * kOfWarp, first = tile.first + row_in_tile;
  const int last = std::min(first + kOfWarp, end) - 1;  // below `first`: the warp has none
  const int g = device::lane() / 4;
  const int window = a.sizes.window > 0 && a.sizes.window < end ? int(a.sizes.window) : end;
  const float scale = static_cast<float>(a.sizes.scale) * kLog2E<float>;
  float log_sum[kRows], delta[kRows];
  HONE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const int64_t at = head * x.rows.stride + index * kGradientRows + row_in_tile + 8 * r + g;
    log_sum[r] = x.rows.log_sum[at];
    delta[r] = x.rows.delta[at];
  }
  MatrixD out[kRowTiles][kColumns] = {};
  for (int stage = 0; key < end; key += kKeys<D>, stage ^= 1) {
    device::copy_async_wait<0>();
    device::barrier();  // this step's tiles are there, those of the step before no longer read
    if (key + kKeys<D> < end) start_copies(key + kKeys<D>, stage ^ 1);
    if (first > last || key > last || key + kKeys<D> - 1 <= first - window) continue;
    const bool whole = key + kKeys<D> - 1 <= first && key > first + kOfWarp - 1 - window;
    const TileView keys = tiles + 2 * stage * kTileElements, values = keys + kTileElements;

    MatrixD score[kRowTiles][kKeyTiles] = {}, of_score[kRowTiles][kKeyTiles] = {};
    multiply_rows<D>(score, queries, row_in_tile, keys);
    multiply_rows<D>(of_score, gradients, row_in_tile, values);
    HONE_UNROLL
    for (int i = 0; i < kRowTiles; ++i) {
      HONE_UNROLL
      for (int n = 0; n < kKeyTiles; ++n) {
        HONE_UNROLL
        for (int e = 0; e < 4; ++e) {
          const float weight =
              device::exp2_approximate(score[i][n].value[e] * scale - log_sum[2 * i + e / 2]);
          float& s = of_score[i][n].value[e];
          s = weight * (s - delta[2 * i + e / 2]);
        }
      }
    }
    if (!whole) {
      hide_unseen(of_score, first - key, window, 0.0f);
    }
    multiply_weights<D>(out, of_score, keys);
  }

  // Through the place of the warp's own queries, so that a lane stores 16 bytes.
  device::warp_barrier();
  place_turned_back<D>(a, out, static_cast<float>(a.sizes.scale), first, tile.length, queries,
                       row_in_tile);
  device::warp_barrier();
  store_rows<D>(queries, row_in_tile, last - first + 1,
                x.args.d_qkv + (tile.begin + first) * a.sizes.width() + head * D, a.sizes.width());
}

template <int D>
cudaError_t launch_rows(const Gradients& x, cudaStream_t stream) {
  const AttentionArgs& a = x.args.forward;
  return device::launch(queries_backward_kernel<D>, tile_bound(a, kQueries) * a.sizes.heads,
                        kThreads, kElements<D> * sizeof(Bfloat16), stream, x);
}

Gradients gradients_of(const AttentionBackwardArgs& args) {
  const AttentionArgs& a = args.forward;
  const int64_t heads = a.sizes.heads + a.sizes.kv_heads;
  Gradients x{args, prepared(a, a.workspace, 0, heads, kGradientRows), {}};
  x.rows.stride = tile_bound(a, kGradientRows) * kGradientRows;
  char* behind = static_cast<char*>(a.workspace) + prepared_bytes(a, heads);
  x.rows.log_sum = reinterpret_cast<float*>(behind);
  x.rows.delta = x.rows.log_sum + a.sizes.heads * x.rows.stride;
  return x;
}

}  // namespace

cudaError_t launch_queries_backward(const Gradients& x, cudaStream_t stream) {
  switch (x.args.forward.sizes.head_dim) {
    case 16:
      return launch_rows<16>(x, stream);
    case 32:
      return launch_rows<32>(x, stream);
    case 64:
      return launch_rows<64>(x, stream);
    default:
      return launch_rows<128>(x, stream);
  }
}

bool attention_backward_takes(const AttentionBackwardArgs& args) {
  return attention_takes(args.forward) && device::is_aligned<8>(args.grad) &&
         device::is_aligned<8>(args.d_qkv);
}

size_t attention_backward_workspace_bytes(const AttentionBackwardArgs& args) {
  const AttentionArgs& a = args.forward;
  return prepared_bytes(a, a.sizes.heads + a.sizes.kv_heads) +
         2 * a.sizes.heads * tile_bound(a, kGradientRows) * kGradientRows * sizeof(float);
}

cudaError_t launch_attention_backward(const AttentionBackwardArgs& args, cudaStream_t stream) {
  if (!attention_backward_takes(args)) return cudaErrorInvalidValue;
  const AttentionArgs& a = args.forward;
  if (a.tokens == 0) return cudaSuccess;
  const Gradients x = gradients_of(args);
  cudaError_t error = launch_preparation(a, x.prepared, stream);
  if (error != cudaSuccess) return error;
  error = device::launch(row_statistics_kernel,
                         tile_bound(a, kGradientRows) * (kGradientRows / kStatisticsRows),
                         kStatisticsThreads, 0, stream, x);
  if (error != cudaSuccess) return error;
  error = launch_keys_backward(x, stream);
  return error != cudaSuccess ? error : launch_queries_backward(x, stream);
}

}  // namespace hone::kernels::cuda
