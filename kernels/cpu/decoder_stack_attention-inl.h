// Attention of decoder_stack.cpp: one row of one layer over its cache blocks. Compiled once for
// each instruction set (Highway's per-target include guard).

#if defined(HONE_KERNELS_CPU_DECODER_STACK_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HONE_KERNELS_CPU_DECODER_STACK_ATTENTION_INL_H_
#undef HONE_KERNELS_CPU_DECODER_STACK_ATTENTION_INL_H_
#else
#define HONE_KERNELS_CPU_DECODER_STACK_ATTENTION_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "hwy/highway.h"
#include "kernels/cpu/decoder_stack.h"
#include "kernels/cpu/vector_exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace {

using Full = hn::ScalableTag<float>;

/// RMS norm of one head in place.
void normalize_head(const float* weight, int64_t dim, float eps, float* x) {
  float squares = 0.0f;
  for (int64_t i = 0; i < dim; ++i) squares += x[i] * x[i];
  const float scale = 1.0f / std::sqrt(squares / static_cast<float>(dim) + eps);
  for (int64_t i = 0; i < dim; ++i) x[i] *= scale * weight[i];
}

/// One row of one layer, as attention sees it.
struct AttentionRow {
  const DecoderStack& stack;
  const StackLayer& layer;
  const int32_t* blocks;
  int64_t position;
  float* qkv;  // [width]
  float* out;  // [heads*head_dim]

  const float* turned(const float* table) const {
    return table + position * (layer.shape.head_dim / 2);
  }
  /// Where the block at `index` of the row keeps the keys (and values) of a head.
  int64_t offset(int64_t index, int64_t kv_head) const {
    const AttentionShape& s = layer.shape;
    return (blocks[index] * s.kv_heads + kv_head) * s.head_dim * kStackBlock;
  }
};

/// Calls visit(tag) with the widest vector that divides `size`.
template <typename Visit>
HWY_INLINE void with_dividing_lanes(int64_t size, const Visit& visit) {
  const Full full;
  const hn::CappedTag<float, 8> eight;
  const hn::CappedTag<float, 4> four;
  if (size % static_cast<int64_t>(hn::Lanes(full)) == 0) {
    visit(full);
  } else if (size % static_cast<int64_t>(hn::Lanes(eight)) == 0) {
    visit(eight);
  } else if (size % static_cast<int64_t>(hn::Lanes(four)) == 0) {
    visit(four);
  } else {
    visit(hn::CappedTag<float, 1>());
  }
}

/// math::rope_rotate of `heads` heads that lie side by side, on vectors.
void rotate(const AttentionRow& row, int64_t heads, float* head) {
  if (row.stack.cos == nullptr) return;
  const int64_t dim = row.layer.shape.head_dim, half = dim / 2;
  const float *cos = row.turned(row.stack.cos), *sin = row.turned(row.stack.sin);
  with_dividing_lanes(half, [&](auto d) {
    const int64_t lanes = hn::Lanes(d);
    for (int64_t i = 0; i < half; i += lanes) {
      const auto c = hn::LoadU(d, cos + i), s = hn::LoadU(d, sin + i);
      for (float* first = head + i; first < head + heads * dim; first += dim) {
        const auto x = hn::LoadU(d, first), y = hn::LoadU(d, first + half);
        hn::StoreU(hn::Sub(hn::Mul(x, c), hn::Mul(y, s)), d, first);
        hn::StoreU(hn::Add(hn::Mul(y, c), hn::Mul(x, s)), d, first + half);
      }
    }
  });
}

/// Norms and turns the queries and keys of a row, and writes its key and value to the cache.
void enter_cache(const AttentionRow& row) {
  const AttentionShape& s = row.layer.shape;
  const int64_t dim = s.head_dim, slot = row.position % kStackBlock;
  for (int64_t h = 0; h < s.heads + s.kv_heads; ++h) {
    const float* norm = h < s.heads ? row.layer.query_norm : row.layer.key_norm;
    if (norm != nullptr) normalize_head(norm, dim, row.stack.norm_eps, row.qkv + h * dim);
  }
  rotate(row, s.heads + s.kv_heads, row.qkv);
  for (int64_t h = 0; h < s.kv_heads; ++h) {
    const int64_t offset = row.offset(row.position / kStackBlock, h);
    const float* key = row.qkv + (s.heads + h) * dim;
    const float* value = row.qkv + (s.heads + s.kv_heads + h) * dim;
    float* keys = row.layer.keys + offset + slot;
    for (int64_t i = 0; i < dim; ++i) keys[i * kStackBlock] = key[i];
    std::copy(value, value + dim, row.layer.values + offset + slot * dim);
  }
}

/// Scores of `count` blocks for kGroup query heads that share a key head; scaled by the query.
template <int kGroup>
void score_blocks(const AttentionRow& row, int64_t kv_head, int64_t first, int64_t count,
                  const float* query, float* scores, int64_t stride) {
  const Full d;
  const int64_t lanes = hn::Lanes(d), dim = row.layer.shape.head_dim;
  for (int64_t b = 0; b < count; ++b) {
    const float* keys = row.layer.keys + row.offset(first + b, kv_head);
    for (int64_t at = 0; at < kStackBlock; at += lanes) {
      hn::Vec<Full> sum[kGroup];
      for (int g = 0; g < kGroup; ++g) sum[g] = hn::Zero(d);
      for (int64_t i = 0; i < dim; ++i) {
        const auto key = hn::LoadU(d, keys + i * kStackBlock + at);
        for (int g = 0; g < kGroup; ++g) {
          sum[g] = hn::MulAdd(hn::Set(d, query[g * dim + i]), key, sum[g]);
        }
      }
      for (int g = 0; g < kGroup; ++g) {
        hn::StoreU(sum[g], d, scores + g * stride + b * kStackBlock + at);
      }
    }
  }
}

/// scores[0, size) -> e^(s - max), size in whole vectors; returns their sum.
HWY_INLINE float softmax(float* scores, int64_t size) {
  const Full d;
  const int64_t lanes = hn::Lanes(d);
  auto top = hn::LoadU(d, scores);
  for (int64_t j = lanes; j < size; j += lanes) top = hn::Max(top, hn::LoadU(d, scores + j));
  top = hn::MaxOfLanes(d, top);
  auto sum = hn::Zero(d);
  for (int64_t j = 0; j < size; j += lanes) {
    const auto e = exp_below_88(d, hn::Sub(hn::LoadU(d, scores + j), top));
    hn::StoreU(e, d, scores + j);
    sum = hn::Add(sum, e);
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

/// out = sum of weights[j] * value[j], j in [0, count), for kGroup query heads. `d` divides
/// head_dim into whole vectors. Two sums an element, of even and of odd positions.
template <int kGroup, class D>
void mix_values(D d, const AttentionRow& row, int64_t kv_head, int64_t first, int64_t count,
                const float* weights, int64_t stride, const float* inverse, float* out) {
  const int64_t lanes = hn::Lanes(d), dim = row.layer.shape.head_dim;
  for (int64_t i = 0; i < dim; i += lanes) {
    hn::Vec<D> even[kGroup], odd[kGroup];
    for (int g = 0; g < kGroup; ++g) even[g] = odd[g] = hn::Zero(d);
    for (int64_t j = 0; j < count; j += kStackBlock) {
      const float* values = row.layer.values + row.offset(first + j / kStackBlock, kv_head) + i;
      const int64_t here = std::min(kStackBlock, count - j);
      int64_t k = 0;
      for (; k + 2 <= here; k += 2) {
        const auto v0 = hn::LoadU(d, values + k * dim), v1 = hn::LoadU(d, values + (k + 1) * dim);
        for (int g = 0; g < kGroup; ++g) {
          const float* w = weights + g * stride + j + k;
          even[g] = hn::MulAdd(hn::Set(d, w[0]), v0, even[g]);
          odd[g] = hn::MulAdd(hn::Set(d, w[1]), v1, odd[g]);
        }
      }
      if (k < here) {
        const auto v = hn::LoadU(d, values + k * dim);
        for (int g = 0; g < kGroup; ++g) {
          even[g] = hn::MulAdd(hn::Set(d, weights[g * stride + j + k]), v, even[g]);
        }
      }
    }
    for (int g = 0; g < kGroup; ++g) {
      hn::StoreU(hn::Mul(hn::Add(even[g], odd[g]), hn::Set(d, inverse[g])), d, out + g * dim + i);
    }
  }
}

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
/// mix_values where two values fill a vector: lanes of even and of odd positions, added at the end.
template <int kGroup>
void mix_value_pairs(const AttentionRow& row, int64_t kv_head, int64_t first, int64_t count,
                     const float* weights, int64_t stride, const float* inverse, float* out) {
  const Full d;
  const hn::Half<Full> half;
  const hn::RebindToSigned<Full> di;
  const int64_t lanes = hn::Lanes(d), dim = lanes / 2;
  int32_t later[hn::MaxLanes(d)];  // lane -> 0 or 1: which of two weights it takes
  for (int64_t i = 0; i < lanes; ++i) later[i] = i < dim ? 0 : 1;
  const auto step = hn::LoadU(di, later);
  hn::Vec<Full> sum[kGroup];
  for (int g = 0; g < kGroup; ++g) sum[g] = hn::Zero(d);
  for (int64_t j = 0; j < count; j += kStackBlock) {
    const float* values = row.layer.values + row.offset(first + j / kStackBlock, kv_head);
    const int64_t here = std::min(kStackBlock, count - j);
    for (int64_t at = 0; at < here; at += lanes) {
      hn::Vec<Full> own[kGroup];
      for (int g = 0; g < kGroup; ++g) own[g] = hn::LoadU(d, weights + g * stride + j + at);
      const int64_t end = std::min(lanes, here - at);
      int64_t k = 0;
      for (; k + 2 <= end; k += 2) {
        const auto value = hn::LoadU(d, values + (at + k) * dim);
        const auto index = hn::IndicesFromVec(d, hn::Add(step, hn::Set(di, static_cast<int>(k))));
        for (int g = 0; g < kGroup; ++g) {
          sum[g] = hn::MulAdd(hn::TableLookupLanes(own[g], index), value, sum[g]);
        }
      }
      if (k < end) {  // what stands behind the last value has not been written
        const auto value = hn::ZeroExtendVector(d, hn::LoadU(half, values + (at + k) * dim));
        for (int g = 0; g < kGroup; ++g) {
          sum[g] = hn::MulAdd(hn::Set(d, weights[g * stride + j + at + k]), value, sum[g]);
        }
      }
    }
  }
  for (int g = 0; g < kGroup; ++g) {
    const auto both = hn::Add(hn::LowerHalf(half, sum[g]), hn::UpperHalf(half, sum[g]));
    hn::StoreU(hn::Mul(both, hn::Set(half, inverse[g])), half, out + g * dim);
  }
}
#endif

/// kGroup query heads from `head` on, which share a key/value head.
template <int kGroup>
void attend(const AttentionRow& row, int64_t head, StackScratch& scratch) {
  const AttentionShape& s = row.layer.shape;
  const int64_t dim = s.head_dim, kv_head = head / s.group;
  const int64_t begin = s.first_key(row.position);
  const int64_t first = begin / kStackBlock, last = row.position / kStackBlock;
  const int64_t blocks = last - first + 1, stride = blocks * kStackBlock;
  const int64_t count = row.position + 1 - first * kStackBlock;
  float* query = scratch.query.data();
  float* scores = scratch.scores.data();
  const auto scale = static_cast<float>(s.scale);
  for (int64_t i = 0; i < kGroup * dim; ++i) query[i] = row.qkv[head * dim + i] * scale;
  score_blocks<kGroup>(row, kv_head, first, blocks, query, scores, stride);
  float inverse[kGroup];
  for (int g = 0; g < kGroup; ++g) {
    constexpr float kHidden = -std::numeric_limits<float>::infinity();
    float* own = scores + g * stride;
    std::fill(own, own + (begin - first * kStackBlock), kHidden);
    std::fill(own + count, own + stride, kHidden);
    inverse[g] = 1.0f / softmax(own, stride);
  }
  float* out = row.out + head * dim;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  if (2 * dim == static_cast<int64_t>(hn::Lanes(Full()))) {
    mix_value_pairs<kGroup>(row, kv_head, first, count, scores, stride, inverse, out);
    return;
  }
#endif
  with_dividing_lanes(dim, [&](auto d) {
    mix_values<kGroup>(d, row, kv_head, first, count, scores, stride, inverse, out);
  });
}

void attend_row(const AttentionRow& row, StackScratch& scratch) {
  const AttentionShape& s = row.layer.shape;
  for (int64_t kv_head = 0; kv_head < s.kv_heads; ++kv_head) {
    int64_t head = kv_head * s.group;
    const int64_t end = head + s.group;
    for (; head + 4 <= end; head += 4) attend<4>(row, head, scratch);
    for (; head + 2 <= end; head += 2) attend<2>(row, head, scratch);
    for (; head < end; ++head) attend<1>(row, head, scratch);
  }
  const int64_t width = s.heads * s.head_dim;
  std::fill(row.out + width, row.out + stack_padded(width), 0.0f);
}

}  // namespace
}  // namespace hone::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
