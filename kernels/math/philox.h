#pragma once

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a random
// function of (key, counter) without state, so that a draw depends on what it is for and not on
// the order in which draws are made.

#include <cstdint>

#include "kernels/math/host_device.h"

namespace hone::kernels::math {

struct PhiloxBlock {
  uint32_t word[4];
};

constexpr uint32_t kPhiloxMultiplier0 = 0xD2511F53u;
constexpr uint32_t kPhiloxMultiplier1 = 0xCD9E8D57u;
constexpr uint32_t kPhiloxWeyl0 = 0x9E3779B9u;
constexpr uint32_t kPhiloxWeyl1 = 0xBB67AE85u;
constexpr int kPhiloxRounds = 10;

HONE_HD PhiloxBlock philox4x32(PhiloxBlock counter, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint64_t product0 = static_cast<uint64_t>(kPhiloxMultiplier0) * counter.word[0];
    const uint64_t product1 = static_cast<uint64_t>(kPhiloxMultiplier1) * counter.word[2];
    counter = {{static_cast<uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0,
                static_cast<uint32_t>(product1),
                static_cast<uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1,
                static_cast<uint32_t>(product0)}};
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
  return counter;
}

HONE_HD PhiloxBlock philox_for_seed(PhiloxBlock counter, int64_t seed) {
  const uint64_t bits = static_cast<uint64_t>(seed);
  return philox4x32(counter, static_cast<uint32_t>(bits), static_cast<uint32_t>(bits >> 32));
}

/// Uniform in [0, 1) with 53 random bits, for the sampling of one token. `prompt` >= 0 and below
/// 2^63; `sample` and `position` below 2^32, so that no two keys share a counter.
HONE_HD double sample_uniform(int64_t seed, int64_t prompt, int64_t sample, int64_t position) {
  const uint64_t p = static_cast<uint64_t>(prompt);
  const PhiloxBlock r =
      philox_for_seed({{static_cast<uint32_t>(position), static_cast<uint32_t>(sample),
                        static_cast<uint32_t>(p), static_cast<uint32_t>(p >> 32)}},
                      seed);
  const uint64_t bits = (static_cast<uint64_t>(r.word[0]) << 32) | r.word[1];
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

/// Last counter word of dropout: its top bit is never set by sample_uniform, so the two streams of
/// one seed never meet.
constexpr uint32_t kDropoutDomain = 0xFFFFFFFFu;

/// The four 32-bit draws of elements 4*block .. 4*block+3.
HONE_HD PhiloxBlock dropout_block(int64_t seed, uint64_t block) {
  return philox_for_seed(
      {{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0u, kDropoutDomain}},
      seed);
}

/// An element is dropped when its draw is below this: floor(p * 2^32).
HONE_HD uint32_t dropout_threshold(double p) {
  const double t = p * 4294967296.0;
  return t >= 4294967295.0 ? 0xFFFFFFFFu : static_cast<uint32_t>(t);
}

}  // namespace hone::kernels::math
