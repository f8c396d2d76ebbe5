#pragma once

// Instruction sets for which the vectorised kernels are compiled; included before highway.h. The
// machine's best one is picked at run time: AVX-512 (AVX3), AVX2, or the compiler's baseline.
// Fewer targets than Highway offers, because every target compiles the whole file once more.

// Highway spells them by name; the macros exist when this one is expanded. Smaller bits are better
// x86 sets, of which each version knows more (1.0.3 one, 1.0.7 three): what asks for HWY_AVX3 would
// find itself compiled for another one.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | (HWY_AVX3 - 1))
