// decode_attention of bfloat16 on tensor cores, head_dim 64, 128 or 256: one token a row against
// its block cache, bound by reading keys and values once.
//
//   attend_rows_kernel  a block a (row, chunk of context, 8 query heads of one kv head)
//
// between the two kernels of decode_parts.cuh: all rows' keys are written first, because rows may
// be tokens of one sequence. A chunk is 256 tokens whatever the batch: a row has the same bits in
// any batch. 4 warps take 64 tokens each and meet once, at the end. Keys and values go from memory
// to registers, 16 bytes a lane, and are operands there as they come:
//
//   scores   Q [heads, columns] K^T: lane (g, t) holds key g, columns 8t.. of 32: two operands B of
//            a product that sums over the columns in another order, with Q alike
//   results  V^T [columns, keys] P^T: lane (g, t) holds keys 2t, 2t+1 and 2t+8, 2t+9, columns 8g..:
//            one permutation a word makes operands A; what a lane has of P is its operand B
//
// so there is no shared memory and no exchange between lanes on the way: 2 batches of 16 tokens
// are in flight a warp (4 KB each at head_dim 128), and 3 blocks an SM make 96 KB of them.

#include <algorithm>
#include <cmath>

#include "kernels/cuda/decode_parts.cuh"
#include "kernels/cuda/decode_tiles.h"
#include "kernels/cuda/softmax_sums.cuh"

namespace hone::kernels::cuda {
namespace {

using device::MatrixA;
using device::MatrixB;
using device::MatrixD;
using math::Bfloat16;
using Eight = device::Vector<uint32_t, 4>;  // eight elements, two a word

constexpr int kThreads = kDecodeThreads, kWarps = kThreads / device::kWarp;
constexpr int kOfWarp = kChunk / kWarps;  // tokens
constexpr int kTokens = 16;               // a batch
constexpr int kBatches = kOfWarp / kTokens;
constexpr int kHeads = 8;  // query heads a block

/// Columns `column`.. of a query head, rotated to `position`, rounded.
template <int D>
HONE_DEVICE Eight rotated_query(const DecodeArgs<Bfloat16>& a, const Bfloat16* q, int64_t position,
                                int column) {
  constexpr int kHalf = D / 2;
  const int at = column % kHalf;
  const auto low = device::load_vector<8>(q, at), high = device::load_vector<8>(q, at + kHalf);
  float turned[8];
  HONE_UNROLL
  for (int e = 0; e < 8; ++e) {
    float first = math::widen(low[e]), second = math::widen(high[e]);
    math::rope_rotate(first, second, a.cos[position * kHalf + at + e],
                      a.sin[position * kHalf + at + e]);
    turned[e] = column < kHalf ? first : second;
  }
  Eight out;
  HONE_UNROLL
  for (int w = 0; w < 4; ++w) out[w] = device::pack_bfloat16(turned[2 * w], turned[2 * w + 1]);
  return out;
}

template <int D>
HONE_KERNEL_RESIDENT(kThreads, D < 256 ? 3 : 2)
attend_rows_kernel(DecodeArgs<Bfloat16> a, Parts<float> parts, int pieces) {
  constexpr int kVectors = D / 16;  // of 16 bytes that a lane holds of a batch
  constexpr int kDepth = D == 64 ? 4 : D == 128 ? 2 : 1;
  const int kv_heads = static_cast<int>(a.sizes.kv_heads);
  // Neighbouring blocks read neighbouring heads of the same tokens.
  int index = static_cast<int>(device::block_index());
  const int kv_head = index % kv_heads;
  index /= kv_heads;
  const int piece = index % pieces;
  index /= pieces;
  const int chunk = index % parts.chunks;
  const int64_t row = index / parts.chunks;
  const int group = static_cast<int>(a.sizes.group());
  const int64_t first_head = kv_head * group + piece * kHeads;
  const int count = std::min(int{kHeads}, group - piece * kHeads);
  const int position = static_cast<int>(a.positions[row]);
  const int low = static_cast<int>(a.sizes.first_key(position));
  if (chunk * kChunk > position || (chunk + 1) * kChunk <= low) return;  // the whole block

  const int lane = device::lane(), warp = device::warp_index(), g = lane / 4, t = lane % 4;
  const int first = chunk * kChunk + warp * kOfWarp;  // token of this warp
  const auto sees = [&](int token) { return token <= position && token >= low; };
  int slots[2];  // of tokens first + lane and 32 more
  HONE_UNROLL
  for (int i = 0; i < 2; ++i) {
    const int token = first + i * device::kWarp + lane;
    slots[i] = static_cast<int>(slot_of(a, row, sees(token) ? token : position));
  }
  const bool whole = sees(first) && sees(first + kOfWarp - 1);  // the row sees all of them
  // What a lane holds of a batch: 8 elements each. Where the row does not see the token they are
  // those of its own token: loads without conditions are all on their way at once.
  Eight held[kDepth][kVectors];
  const auto start = [&](int batch, Eight(&to)[kVectors]) {
    const int from = batch % kBatches * kTokens;
    const bool keys = batch < kBatches;
    HONE_UNROLL
    for (int i = 0; i < kVectors; ++i) {
      const int token = from + (keys ? i % 2 * 8 + g : 2 * t + i % 2 + i / 2 % 2 * 8);
      const int column = keys ? i / 2 * 32 + 8 * t : i / 4 * 64 + 8 * g;
      const int64_t slot = device::shuffle(slots[from / device::kWarp], token % device::kWarp);
      const Bfloat16* x = (keys ? a.k_cache : a.v_cache) + (slot * kv_heads + kv_head) * D + column;
      to[i] = device::load_vector<4>(reinterpret_cast<const uint32_t*>(x), 0);
    }
  };
  HONE_UNROLL
  for (int b = 0; b < kDepth; ++b) start(b, held[b]);

  Eight query[D / 32];
  const Bfloat16* q = a.qkv + row * a.sizes.width() + (first_head + g) * D;
  HONE_UNROLL
  for (int j = 0; j < D / 32; ++j) {
    query[j] = g < count ? rotated_query<D>(a, q, position, 32 * j + 8 * t) : Eight{};
  }

  // Head g; of tokens 8n + 2t and the next. The lower half of the products has no heads.
  MatrixD score[2 * kBatches] = {};
  HONE_UNROLL
  for (int b = 0; b < kBatches; ++b) {
    HONE_UNROLL
    for (int i = 0; i < kVectors; ++i) {
      const Eight& k = held[b % kDepth][i];
      const Eight& x = query[i / 2];
      device::multiply_add(score[2 * b + i % 2], MatrixA{{x[0], 0, x[1], 0}},
                           MatrixB{{k[0], k[1]}});
      device::multiply_add(score[2 * b + i % 2], MatrixA{{x[2], 0, x[3], 0}},
                           MatrixB{{k[2], k[3]}});
    }
    start(b + kDepth, held[b % kDepth]);
  }

  float top = -INFINITY, sum = 0.0f;
  HONE_UNROLL
  for (int n = 0; n < 2 * kBatches; ++n) {
    HONE_UNROLL
    for (int e = 0; e < 2; ++e) {
      float& s = score[n].value[e];
      if (!sees(first + 8 * n + 2 * t + e)) s = -INFINITY;
      top = std::fmax(top, s);
    }
  }
  top = std::fmax(top, device::shuffle_xor(top, 1));
  top = std::fmax(top, device::shuffle_xor(top, 2));
  const float scale = static_cast<float>(a.sizes.scale) * kLog2E<float>;
  const float base = top == -INFINITY ? 0.0f : top * scale;
  uint32_t weight[2 * kBatches];
  HONE_UNROLL
  for (int n = 0; n < 2 * kBatches; ++n) {
    const float left = device::exp2_approximate(score[n].value[0] * scale - base);
    const float right = device::exp2_approximate(score[n].value[1] * scale - base);
    sum += left;
    sum += right;
    weight[n] = device::pack_bfloat16(left, right);
  }
  sum += device::shuffle_xor(sum, 1);
  sum += device::shuffle_xor(sum, 2);

  // Columns 64(m/4) + 8g + 2(m%4) and the next, of heads 2t and 2t+1.
  MatrixD out[kVectors] = {};
  HONE_UNROLL
  for (int b = 0; b < kBatches; ++b) {
    const Eight(&v)[kVectors] = held[(b + kBatches) % kDepth];
    HONE_UNROLL
    for (int m = 0; m < kVectors; ++m) {
      MatrixA values;
      HONE_UNROLL
      for (int pair = 0; pair < 2; ++pair) {
        uint32_t x = v[m / 4 * 4 + 2 * pair][m % 4], y = v[m / 4 * 4 + 2 * pair + 1][m % 4];
        if (!whole) {  // a weight of 0 would not make an infinite value nothing
          const int token = first + b * kTokens + 2 * t + 8 * pair;
          x = sees(token) ? x : 0u;
          y = sees(token + 1) ? y : 0u;
        }
        values.word[2 * pair] = (x & 0xFFFFu) | y << 16;
        values.word[2 * pair + 1] = x >> 16 | (y & 0xFFFF0000u);
      }
      device::multiply_add(out[m], values, MatrixB{{weight[2 * b], weight[2 * b + 1]}});
    }
    if (b + kBatches + kDepth < 2 * kBatches) {
      start(b + kBatches + kDepth, held[(b + kBatches) % kDepth]);
    }
  }

  // The warps' parts, scaled to the largest score of the four, in their order.
  HONE_SHARED(float, tops, kWarps* kHeads);
  HONE_SHARED(float, sums, kWarps* kHeads);
  HONE_SHARED(float, factors, kWarps* kHeads);
  const auto of_warp = device::dynamic_shared<float>(0, kWarps * kHeads * D);
  if (t == 0) {
    tops[warp * kHeads + g] = top * scale;
    sums[warp * kHeads + g] = sum;
  }
  HONE_UNROLL
  for (int m = 0; m < kVectors; ++m) {
    const int column = m / 4 * 64 + 8 * g + m % 4 * 2;
    HONE_UNROLL
    for (int e = 0; e < 2; ++e) {
      const device::Vector<float, 2> two{{out[m].value[e], out[m].value[e + 2]}};
      device::store_vector(of_warp, (warp * kHeads + 2 * t + e) * D + column, two);
    }
  }
  device::barrier();
  const int64_t part = (row * a.sizes.heads + first_head) * parts.chunks + chunk;
  if (warp == 0) {  // lane: warp lane/8, head lane%8
    const float mine = tops[lane];
    float most = std::fmax(mine, device::shuffle_xor(mine, 8));
    most = std::fmax(most, device::shuffle_xor(most, 16));
    const float factor = device::exp2_approximate(mine - most);
    float total = sums[lane] * factor;
    total += device::shuffle_xor(total, 8);
    total += device::shuffle_xor(total, 16);
    factors[lane] = parts.chunks > 1 ? factor : factor / total;
    if (lane < count && parts.chunks > 1) {
      parts.top[part + lane * parts.chunks] = most / kLog2E<float>;
      parts.sum[part + lane * parts.chunks] = total;
    }
  }
  device::barrier();
  for (int i = device::thread_index(); i < count * D; i += kThreads) {
    const int h = i / D;
    float total = of_warp[i] * factors[h];
    HONE_UNROLL
    for (int w = 1; w < kWarps; ++w) total += of_warp[w * kHeads * D + i] * factors[w * kHeads + h];
    if (parts.chunks > 1) {
      parts.values[(part + h * parts.chunks) * D + i % D] = total;
    } else {
      math::narrow(total, a.out[(row * a.sizes.heads + first_head) * D + i]);
    }
  }
}

template <int D>
cudaError_t launch_rows(const DecodeArgs<Bfloat16>& a, const Parts<float>& parts,
                        cudaStream_t stream) {
  const int pieces = static_cast<int>((a.sizes.group() + kHeads - 1) / kHeads);
  return device::launch(attend_rows_kernel<D>, a.rows * a.sizes.kv_heads * pieces * parts.chunks,
                        kThreads, kWarps * kHeads * D * sizeof(float), stream, a, parts, pieces);
}

}  // namespace

bool decode_tiles_take(const DecodeArgs<Bfloat16>& a) {
  const int64_t d = a.sizes.head_dim;
  return (d == 64 || d == 128 || d == 256) && device::is_aligned<8>(a.qkv);
}

cudaError_t launch_decode_tiles(const DecodeArgs<Bfloat16>& a, const Parts<float>& parts,
                                cudaStream_t stream) {
  switch (a.sizes.head_dim) {
    case 64:
      return launch_rows<64>(a, parts, stream);
    case 128:
      return launch_rows<128>(a, parts, stream);
    default:
      return launch_rows<256>(a, parts, stream);
  }
}

}  // namespace hone::kernels::cuda
