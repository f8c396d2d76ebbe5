#pragma once

// The operands of one matrix product of a warp, D[16,8] += A[16,16] B[16,8], bfloat16 into float32:
// what each lane holds of them (PTX ISA, mma.m16n8k16, floating-point fragments). With g = lane / 4
// and t = lane % 4, a word being two neighbours, the lower index in the lower half:
//
//   A   words (row g, columns 2t..), (row g+8, 2t..), (row g, 2t+8..), (row g+8, 2t+8..)
//   B   words (rows 2t.., column g), (rows 2t+8.., column g)
//   D   values (row g, columns 2t and 2t+1), (row g+8, columns 2t and 2t+1)
//
// multiply_add(d, a, b) is one of the primitives: all 32 lanes, from the same place.

#include <cstdint>

#include "kernels/math/bfloat16.h"

namespace hone::kernels::device {

struct MatrixA {
  uint32_t word[4];
};
struct MatrixB {
  uint32_t word[2];
};
struct MatrixD {
  float value[4];
};

/// Two float32 rounded to bfloat16, the first in the lower half.
HONE_HD uint32_t pack_bfloat16(float low, float high) {
#if defined(__CUDA_ARCH__)
  uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
#else
  math::Bfloat16 first, second;
  math::narrow(low, first);
  math::narrow(high, second);
  return first.bits | static_cast<uint32_t>(second.bits) << 16;
#endif
}

}  // namespace hone::kernels::device
