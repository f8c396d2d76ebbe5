#include "data/index/siphash.h"

#include <bit>
#include <cstring>

namespace hone::data {
namespace {

struct State {
  uint64_t v0, v1, v2, v3;

  void round() {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }
  void take(uint64_t word) {
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  }
  uint64_t finish() {
    for (int i = 0; i < 4; ++i) round();
    return v0 ^ v1 ^ v2 ^ v3;
  }
};

}  // namespace

Fingerprint siphash128(const SipKey& key, std::string_view text) {
  State state{0x736f6d6570736575u ^ key[0], 0x646f72616e646f6du ^ key[1] ^ 0xee,
              0x6c7967656e657261u ^ key[0], 0x7465646279746573u ^ key[1]};
  static_assert(std::endian::native == std::endian::little);
  const char* at = text.data();
  std::size_t left = text.size();
  for (; left >= sizeof(uint64_t); at += sizeof(uint64_t), left -= sizeof(uint64_t)) {
    uint64_t word;
    std::memcpy(&word, at, sizeof word);
    state.take(word);
  }
  uint64_t last = static_cast<uint64_t>(text.size()) << 56;
  if (left > 0) {
    uint64_t rest = 0;
    std::memcpy(&rest, at, left);
    last |= rest;
  }
  state.take(last);
  state.v2 ^= 0xee;
  Fingerprint digest;
  digest.high = state.finish();
  state.v1 ^= 0xdd;
  digest.low = state.finish();
  return digest;
}

}  // namespace hone::data
