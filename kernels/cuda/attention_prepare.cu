// Before the tiles of attention:
//
//   prepare_kernel  a block 8 tokens, 16 bytes of each half of a head a thread: reads and writes
//                   each element once. The last block counts the tiles before each sequence.
//
// 8 tokens of 16 heads of 64 are 512 pieces of 2 x 16 bytes: 256 threads keep two in flight each.

#include <algorithm>

#include "kernels/cuda/attention_setup.cuh"
#include "kernels/device/collectives.h"

namespace hone::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTokens = 8;  // a block

HONE_DEVICE void count_tiles(const AttentionArgs& a, const Prepared& p) {
  int64_t before = 0;
  for (int64_t base = 0; base < a.sequences; base += kThreads) {
    const int64_t s = base + device::thread_index();
    const int64_t tiles =
        s < a.sequences ? (a.cu_seqlens[s + 1] - a.cu_seqlens[s] + p.tile - 1) / p.tile : 0;
    const auto scan = device::block_scan<kThreads>(tiles, int64_t{0}, device::Add{});
    if (s < a.sequences) p.prefix[s] = before + scan.before;
    before += scan.total;
  }
  if (device::thread_index() == 0) p.prefix[a.sequences] = before;
}

HONE_KERNEL(kThreads) prepare_kernel(AttentionArgs a, Prepared p) {
  if (device::block_index() == device::grid_blocks() - 1) {
    count_tiles(a, p);
    return;  // the whole block
  }
  const int head_dim = static_cast<int>(a.sizes.head_dim), half = head_dim / 2;
  const int of_head = half / 8, of_token = p.heads * of_head;  // threads' pieces of work
  const int64_t begin = device::block_index() * kTokens;
  const int tokens = static_cast<int>(std::min<int64_t>(kTokens, a.tokens - begin));
  int64_t sequence = last_at_most(a.cu_seqlens, a.sequences, begin);
  for (int i = device::thread_index(); i < tokens * of_token; i += kThreads) {
    const int64_t token = begin + i / of_token;
    while (a.cu_seqlens[sequence + 1] <= token) ++sequence;
    const int head = i % of_token / of_head, column = i % of_head * 8;
    const Angles angles = angles_at(a, (token - a.cu_seqlens[sequence]) * half + column);
    const int64_t from = token * a.sizes.width() + (p.first + head) * head_dim + column;
    auto first = device::load_vector<8>(a.qkv, from);
    auto second = device::load_vector<8>(a.qkv, from + half);
    rotate_eight(first, second, angles);
    const int64_t to = token * p.width + head * head_dim + column;
    device::store_vector(p.rotated, to, first);
    device::store_vector(p.rotated, to + half, second);
  }
}

}  // namespace

cudaError_t launch_preparation(const AttentionArgs& a, const Prepared& p, cudaStream_t stream) {
  return device::launch(prepare_kernel, (a.tokens + kTokens - 1) / kTokens + 1, kThreads, 0, stream,
                        a, p);
}

}  // namespace hone::kernels::cuda
