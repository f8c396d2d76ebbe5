// Rotary positions of whole qkv rows (math::rope_rotate on vectors), for heads of 8 or 16 elements,
// of which a vector holds two or one, and of multiples of 32. Compiled for AVX-512 only (Highway's
// per-target include guard).

#if defined(HONE_KERNELS_CPU_AMX_ROPE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef HONE_KERNELS_CPU_AMX_ROPE_INL_H_
#undef HONE_KERNELS_CPU_AMX_ROPE_INL_H_
#else
#define HONE_KERNELS_CPU_AMX_ROPE_INL_H_
#endif

#include "kernels/cpu/amx_block.h"
#include "kernels/cpu/amx_tiles-inl.h"

#if HWY_TARGET == HWY_AVX3

HONE_BEFORE_AMX();
namespace hone::kernels::HWY_NAMESPACE {

/// Turns one row of queries, keys and values in place: queries and keys to their position (or back
/// from it), scaled.
class RopeRow {
 public:
  RopeRow(const BlockShape& shape, const BlockRope& rope, bool back)
      : shape_(shape), rope_(rope), way_(back ? -1.0F : 1.0F) {
    const int64_t dim = shape.head_dim, half = dim / 2;
    if (dim > 16) return;
    alignas(64) int32_t angle[16], partner[16];
    for (int64_t i = 0; i < 16; ++i) {
      angle[i] = static_cast<int32_t>(i % half);
      partner[i] = static_cast<int32_t>(i ^ half);
      if (i % dim < half) first_ |= static_cast<__mmask16>(1U << i);
    }
    angle_ = _mm512_load_si512(angle);
    partner_ = _mm512_load_si512(partner);
  }

  void turn(float* row, int64_t position) const {
    const int64_t queries = shape_.heads * shape_.head_dim;
    const int64_t keys = shape_.kv_heads * shape_.head_dim;
    const int64_t half = shape_.head_dim / 2;
    const float *cos = rope_.cos + position * half, *sin = rope_.sin + position * half;
    if (shape_.head_dim > 16) {
      turn_wide(row, queries, cos, sin, rope_.query_scale);
      turn_wide(row + queries, keys, cos, sin, rope_.key_scale);
      return;
    }
    const __mmask16 there = lanes(half);
    const __m512 c = _mm512_permutexvar_ps(angle_, _mm512_maskz_loadu_ps(there, cos));
    const __m512 s = _mm512_mul_ps(_mm512_permutexvar_ps(angle_, _mm512_maskz_loadu_ps(there, sin)),
                                   _mm512_set1_ps(way_));
    // The first half of a head subtracts its partner times the sine.
    const __m512 signed_sine = _mm512_mask_sub_ps(s, first_, _mm512_setzero_ps(), s);
    turn_narrow(row, queries, c, signed_sine, rope_.query_scale);
    turn_narrow(row + queries, keys, c, signed_sine, rope_.key_scale);
  }

 private:
  void turn_narrow(float* row, int64_t size, __m512 cos, __m512 sine, float scale) const {
    cos = _mm512_mul_ps(cos, _mm512_set1_ps(scale));
    sine = _mm512_mul_ps(sine, _mm512_set1_ps(scale));
    for (int64_t i = 0; i < size; i += 16) {
      const __m512 x = _mm512_load_ps(row + i);
      const __m512 partner = _mm512_permutexvar_ps(partner_, x);
      _mm512_store_ps(row + i, _mm512_fmadd_ps(partner, sine, _mm512_mul_ps(x, cos)));
    }
  }
  void turn_wide(float* row, int64_t size, const float* cos, const float* sin, float scale) const {
    const int64_t half = shape_.head_dim / 2;
    for (int64_t head = 0; head < size; head += 2 * half) {
      for (int64_t i = 0; i < half; i += 16) {
        const __m512 c = _mm512_mul_ps(_mm512_loadu_ps(cos + i), _mm512_set1_ps(scale));
        const __m512 s = _mm512_mul_ps(_mm512_loadu_ps(sin + i), _mm512_set1_ps(scale * way_));
        float *first = row + head + i, *second = first + half;
        const __m512 a = _mm512_load_ps(first), b = _mm512_load_ps(second);
        _mm512_store_ps(first, _mm512_fnmadd_ps(b, s, _mm512_mul_ps(a, c)));
        _mm512_store_ps(second, _mm512_fmadd_ps(a, s, _mm512_mul_ps(b, c)));
      }
    }
  }

  const BlockShape& shape_;
  const BlockRope& rope_;
  float way_;
  __m512i angle_ = {}, partner_ = {};
  __mmask16 first_ = 0;
};

}  // namespace hone::kernels::HWY_NAMESPACE
HONE_AFTER_AMX();

#endif  // HWY_TARGET == HWY_AVX3

#endif  // per-target include guard
