#pragma once

// Reproducible draws: the standard library's distributions differ between implementations.

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace hone::reward {

/// SplitMix64 (Steele, Lea, Flood 2014): one addition and two multiplications a draw.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  /// An independent stream for every (seed, stream).
  Random(uint64_t seed, uint64_t stream) : state_(seed) { state_ = next() ^ (stream * kGolden); }

  uint64_t next() {
    uint64_t z = (state_ += kGolden);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  /// Uniform in [0, n); n > 0. The bias is below n / 2^64.
  size_t below(size_t n) {
    return static_cast<size_t>((static_cast<unsigned __int128>(next()) * n) >> 64);
  }
  /// Fisher-Yates.
  template <class T>
  void shuffle(std::vector<T>& values) {
    for (size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[below(i)]);
  }

 private:
  static constexpr uint64_t kGolden = 0x9E3779B97F4A7C15u;
  uint64_t state_;
};

}  // namespace hone::reward
