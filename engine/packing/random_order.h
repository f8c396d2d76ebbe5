#pragma once

// Seeded permutations that do not depend on the standard library's distributions.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace hone::engine {

/// Well mixed 64 bits of (a, b): SplitMix64's finaliser. Derives independent seeds from one.
uint64_t mix_seed(uint64_t a, uint64_t b);

/// A permutation of 0 ... n-1 (Fisher-Yates) that depends on (n, seed, stream) only.
std::vector<int64_t> random_order(int64_t n, uint64_t seed, uint64_t stream);

}  // namespace hone::engine
