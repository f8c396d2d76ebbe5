#pragma once

// The order statistic of a row without a sort: sums of masses by the digits of a key, from the
// highest down. Masses are integers, so the sums do not depend on who came first.

#include <cstdint>
#include <cstring>

#include "kernels/device/collectives.h"
#include "kernels/math/bfloat16.h"

namespace hone::kernels::cuda {

/// An integer of the width of T that orders as the numbers do; -0 as +0.
template <typename T>
struct SortKey;
template <>
struct SortKey<math::Bfloat16> {
  using Bits = uint16_t;
};
template <>
struct SortKey<float> {
  using Bits = uint32_t;
};
template <>
struct SortKey<double> {
  using Bits = uint64_t;
};

template <typename T, typename Bits = typename SortKey<T>::Bits>
HONE_DEVICE Bits sort_key(T x) {
  constexpr Bits kSign = static_cast<Bits>(Bits(1) << (8 * sizeof(Bits) - 1));
  Bits bits;
  memcpy(&bits, &x, sizeof bits);
  if (bits == kSign) bits = 0;
  return static_cast<Bits>((bits & kSign) != 0 ? ~bits : bits | kSign);
}

/// The number with this key; NaN beyond the infinities.
template <typename T, typename Bits = typename SortKey<T>::Bits>
HONE_DEVICE T number_of(Bits key) {
  constexpr Bits kSign = static_cast<Bits>(Bits(1) << (8 * sizeof(Bits) - 1));
  const Bits bits = static_cast<Bits>((key & kSign) != 0 ? key ^ kSign : ~key);
  T out;
  memcpy(&out, &bits, sizeof bits);
  return out;
}

/// The smallest key up to `high` from which on `enough(number)` holds, of which it must; by a warp,
/// 32 probes at a time, in every lane.
template <typename T, typename Bits, typename Enough>
HONE_DEVICE Bits smallest_key(Bits high, const Enough& enough) {
  uint64_t below = 0, from = high;  // not enough; enough
  while (from - below > 1) {
    const uint64_t step = (from - below + device::kWarp - 1) / device::kWarp;
    const uint64_t probe = below + step * static_cast<uint64_t>(device::lane() + 1);
    const bool holds = probe >= from || enough(number_of<T>(static_cast<Bits>(probe)));
    const int first =
        -device::warp_all_reduce(holds ? -device::lane() : -device::kWarp, device::Larger{});
    const uint64_t reached = below + step * static_cast<uint64_t>(first + 1);
    below += step * static_cast<uint64_t>(first);
    from = reached < from ? reached : from;
  }
  return static_cast<Bits>(from);
}

template <typename Bits>
struct Crossing {
  Bits key;         // the largest whose mass, with all above, reaches the goal
  uint64_t before;  // the mass above it
  bool found;       // false: all masses together do not reach it
};

constexpr int kDigitBits = 11, kBins = 1 << kDigitBits;

/// Shared memory of a search: sums of 64 bits as two words each, because it adds a word at a time.
struct SearchSpace {
  device::SharedView<unsigned> low, high;           // [kBins]
  device::SharedView<Crossing<uint64_t>> crossing;  // [1]
};

/// visit(add) calls add(key, mass) for every element of the thread, the same ones at every call.
/// In every thread of the block. goal > 0.
template <int kThreads, typename Bits, typename Visit>
HONE_DEVICE Crossing<Bits> find_crossing(const SearchSpace& space, uint64_t goal,
                                         const Visit& visit) {
  static_assert(kBins % kThreads == 0);
  constexpr int kBits = 8 * sizeof(Bits), kEach = kBins / kThreads;
  Crossing<uint64_t> at{0, 0, true};  // the digits so far, and the mass above them
  for (int left = kBits; left > 0 && at.found;) {
    const int width = left < kDigitBits ? left : kDigitBits, next = left - width;
    device::barrier();  // an earlier round may still be reading
    for (int b = device::thread_index(); b < kBins; b += kThreads) {
      space.low[b] = 0u;
      space.high[b] = 0u;
    }
    if (device::thread_index() == 0) space.crossing[0] = Crossing<uint64_t>{0, 0, false};
    device::barrier();
    visit([&](Bits key, uint64_t mass) {
      if (mass == 0 || (left < kBits && uint64_t(key) >> left != at.key)) return;
      const int digit = static_cast<int>((uint64_t(key) >> next) & ((1u << width) - 1));
      const unsigned word = static_cast<unsigned>(mass);
      unsigned carried = static_cast<unsigned>(mass >> 32);
      if (device::atomic_add(space.low, digit, word) + word < word) ++carried;
      if (carried != 0) device::atomic_add(space.high, digit, carried);
    });
    device::barrier();
    // From the highest digit down, a run of kEach a thread.
    const auto mass_of = [&](int b) {
      return uint64_t(unsigned(space.high[b])) << 32 | unsigned(space.low[b]);
    };
    const int top = kBins - 1 - device::thread_index() * kEach;
    uint64_t own = 0;
    for (int k = 0; k < kEach; ++k) own += mass_of(top - k);
    uint64_t before =
        at.before + device::block_scan<kThreads>(own, uint64_t{0}, device::Add{}).before;
    if (before < goal && before + own >= goal) {
      int b = top;
      for (; before + mass_of(b) < goal; --b) before += mass_of(b);
      space.crossing[0] = Crossing<uint64_t>{at.key << width | uint64_t(b), before, true};
    }
    device::barrier();
    at = space.crossing[0];
    left = next;
  }
  return {static_cast<Bits>(at.key), at.before, at.found};
}

}  // namespace hone::kernels::cuda
