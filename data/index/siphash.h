#pragma once

// SipHash-2-4 with 128 bits of output (Aumasson and Bernstein 2012, and their reference code for
// the long form): a keyed hash, so that nobody who does not know the key can make two texts that
// collide.

#include <array>
#include <compare>
#include <cstdint>
#include <string_view>

namespace hone::data {

using SipKey = std::array<uint64_t, 2>;

struct Fingerprint {
  uint64_t high = 0, low = 0;
  auto operator<=>(const Fingerprint&) const = default;
};

/// The first eight bytes of the digest are `high`, little-endian.
Fingerprint siphash128(const SipKey& key, std::string_view text);

}  // namespace hone::data
