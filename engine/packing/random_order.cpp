#include "engine/packing/random_order.h"

#include <numeric>
#include <utility>

namespace hone::engine {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15ull;

uint64_t finalise(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

}  // namespace

uint64_t mix_seed(uint64_t a, uint64_t b) {
  return finalise(finalise(a + kGolden) ^ (b + 1) * kGolden);
}

std::vector<int64_t> random_order(int64_t n, uint64_t seed, uint64_t stream) {
  std::vector<int64_t> order(static_cast<size_t>(n > 0 ? n : 0));
  std::iota(order.begin(), order.end(), int64_t{0});
  uint64_t state = mix_seed(seed, stream);
  for (size_t left = order.size(); left > 1; --left) {
    state += kGolden;
    // The high half of a 64 x 64 bit product is uniform on [0, left) but for 2^-64 * left.
    const auto pick = static_cast<size_t>(
        (static_cast<Wide>(finalise(state)) * static_cast<uint64_t>(left)) >> 64);
    std::swap(order[left - 1], order[pick]);
  }
  return order;
}

}  // namespace hone::engine
