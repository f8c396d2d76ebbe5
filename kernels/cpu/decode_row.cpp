#include "kernels/cpu/decode_row.h"

#include <algorithm>
#include <limits>

#include "kernels/math/rope.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/decode_row.cpp"
#include "kernels/cpu/highway_targets.h"
// After the targets.
#include "hwy/foreach_target.h"
// After foreach_target.
#include "hwy/highway.h"
#include "kernels/cpu/bfloat16-inl.h"
#include "kernels/cpu/vector_exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hone::kernels::HWY_NAMESPACE {
namespace {

template <typename T, typename S, typename To>
void rotate(const DecodeRow<T, S>& row, const T* from, T scale, To* to) {
  const int64_t half = row.shape.head_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    T first = from[i], second = from[i + half];
    math::rope_rotate(first, second, row.cos[i], row.sin[i]);
    to[i] = static_cast<To>(first * scale);
    to[i + half] = static_cast<To>(second * scale);
  }
}

/// visit(position, offset into the caches) for every visible position, block by block.
template <typename T, typename S, typename Visit>
HWY_INLINE void for_context(const DecodeRow<T, S>& row, int64_t kv_head, const Visit& visit) {
  const int64_t stride = row.shape.kv_heads * row.shape.head_dim;
  for (int64_t j = row.shape.first_key(row.position); j <= row.position;) {
    const int64_t inside = j % row.block_size;
    const int64_t block = row.blocks[j / row.block_size];
    int64_t offset = (block * row.block_size + inside) * stride + kv_head * row.shape.head_dim;
    const int64_t end = std::min(row.position + 1, j - inside + row.block_size);
    for (; j < end; ++j, offset += stride) visit(j, offset);
  }
}

/// scores[0, count) -> e^(s - max), up to the last whole vector; returns their sum.
template <typename T>
T softmax(T* scores, int64_t count) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = hn::Lanes(d);
  const int64_t padded = (count + lanes - 1) / lanes * lanes;
  std::fill(scores + count, scores + padded, -std::numeric_limits<T>::infinity());
  auto top = hn::LoadU(d, scores);
  for (int64_t j = lanes; j < padded; j += lanes) top = hn::Max(top, hn::LoadU(d, scores + j));
  top = hn::MaxOfLanes(d, top);
  auto sum = hn::Zero(d);
  for (int64_t j = 0; j < padded; j += lanes) {
    const auto e = exp_below_88(d, hn::Sub(hn::LoadU(d, scores + j), top));
    hn::StoreU(e, d, scores + j);
    sum = hn::Add(sum, e);
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

/// `d` divides head_dim into whole vectors.
template <class D, typename T, typename S>
void attend(D d, const DecodeRow<T, S>& row, int64_t kv_head, DecodeScratch<T>& scratch) {
  const AttentionShape& s = row.shape;
  const int64_t dim = s.head_dim, lanes = hn::Lanes(d), first = s.first_key(row.position);
  const int64_t count = row.position + 1 - first;
  const int64_t stride = count + hn::Lanes(hn::ScalableTag<T>());
  scratch.query.resize(s.group * dim);
  scratch.scores.resize(s.group * stride);
  T* query = scratch.query.data();
  T* scores = scratch.scores.data();
  for (int64_t g = 0; g < s.group; ++g) {
    rotate(row, row.qkv + (kv_head * s.group + g) * dim, static_cast<T>(s.scale), query + g * dim);
  }
  for_context(row, kv_head, [&](int64_t j, int64_t offset) {
    for (int64_t g = 0; g < s.group; ++g) {
      auto sum = hn::Zero(d);
      for (int64_t i = 0; i < dim; i += lanes) {
        sum = hn::MulAdd(hn::LoadU(d, query + g * dim + i), load(d, row.k_cache + offset + i), sum);
      }
      scores[g * stride + j - first] = hn::GetLane(hn::SumOfLanes(d, sum));
    }
  });
  for (int64_t g = 0; g < s.group; ++g) {
    T* out = row.out + (kv_head * s.group + g) * dim;
    T* weights = scores + g * stride;
    const auto inverse = hn::Set(d, T(1) / softmax(weights, count));
    for (int64_t i = 0; i < dim; i += lanes) {
      auto sum = hn::Zero(d);
      for_context(row, kv_head, [&](int64_t j, int64_t offset) {
        sum = hn::MulAdd(hn::Set(d, weights[j - first]), load(d, row.v_cache + offset + i), sum);
      });
      hn::StoreU(hn::Mul(sum, inverse), d, out + i);
    }
  }
}

template <typename T, typename S>
void enter(const DecodeRow<T, S>& row, int64_t kv_head) {
  const AttentionShape& s = row.shape;
  const int64_t dim = s.head_dim;
  const int64_t block = row.blocks[row.position / row.block_size];
  const int64_t here =
      ((block * row.block_size + row.position % row.block_size) * s.kv_heads + kv_head) * dim;
  rotate(row, row.qkv + (s.heads + kv_head) * dim, T(1), row.k_cache + here);
  const T* value = row.qkv + (s.heads + s.kv_heads + kv_head) * dim;
  for (int64_t i = 0; i < dim; ++i) row.v_cache[here + i] = static_cast<S>(value[i]);
}

template <typename T, typename S>
void decode(const DecodeRow<T, S>& row, int64_t kv_head, DecodeScratch<T>& scratch) {
  const int64_t dim = row.shape.head_dim;
  const hn::ScalableTag<T> full;
  const hn::CappedTag<T, 8> eight;
  const hn::CappedTag<T, 4> four;
  if (dim % static_cast<int64_t>(hn::Lanes(full)) == 0) {
    attend(full, row, kv_head, scratch);
  } else if (dim % static_cast<int64_t>(hn::Lanes(eight)) == 0) {
    attend(eight, row, kv_head, scratch);
  } else if (dim % static_cast<int64_t>(hn::Lanes(four)) == 0) {
    attend(four, row, kv_head, scratch);
  } else {
    attend(hn::CappedTag<T, 1>(), row, kv_head, scratch);
  }
}

void enter_f32(const DecodeRow<float>& row, int64_t kv_head) { enter(row, kv_head); }
void enter_f64(const DecodeRow<double>& row, int64_t kv_head) { enter(row, kv_head); }
void enter_bf16(const DecodeRow<float, c10::BFloat16>& row, int64_t kv_head) {
  enter(row, kv_head);
}
void decode_f32(const DecodeRow<float>& row, int64_t kv_head, DecodeScratch<float>& scratch) {
  decode(row, kv_head, scratch);
}
void decode_f64(const DecodeRow<double>& row, int64_t kv_head, DecodeScratch<double>& scratch) {
  decode(row, kv_head, scratch);
}
void decode_bf16(const DecodeRow<float, c10::BFloat16>& row, int64_t kv_head,
                 DecodeScratch<float>& scratch) {
  decode(row, kv_head, scratch);
}

}  // namespace
}  // namespace hone::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include "kernels/cpu/float_dispatch.h"

namespace hone::kernels {

HONE_EXPORT(enter);
HWY_EXPORT(enter_bf16);
HONE_EXPORT(decode);
HWY_EXPORT(decode_bf16);

template <typename T, typename S>
void enter_cache(const DecodeRow<T, S>& row, int64_t kv_head) {
  if constexpr (std::is_same_v<T, S>) {
    HONE_DISPATCH(T, enter)(row, kv_head);
  } else {
    HWY_DYNAMIC_DISPATCH(enter_bf16)(row, kv_head);
  }
}

template <typename T, typename S>
void decode_row(const DecodeRow<T, S>& row, int64_t kv_head, DecodeScratch<T>& scratch) {
  if constexpr (std::is_same_v<T, S>) {
    HONE_DISPATCH(T, decode)(row, kv_head, scratch);
  } else {
    HWY_DYNAMIC_DISPATCH(decode_bf16)(row, kv_head, scratch);
  }
}

template void enter_cache(const DecodeRow<float>&, int64_t);
template void enter_cache(const DecodeRow<double>&, int64_t);
template void enter_cache(const DecodeRow<float, c10::BFloat16>&, int64_t);
template void decode_row(const DecodeRow<float>&, int64_t, DecodeScratch<float>&);
template void decode_row(const DecodeRow<double>&, int64_t, DecodeScratch<double>&);
template void decode_row(const DecodeRow<float, c10::BFloat16>&, int64_t, DecodeScratch<float>&);

}  // namespace hone::kernels

#endif  // HWY_ONCE
