#include "data/journal/keyed_order.h"

#include <sodium.h>

#include <algorithm>

#include "data/error.h"

namespace hone::data {
namespace {

void start_sodium() {
  static const int started = sodium_init();
  if (started < 0) throw Error("random bytes", "libsodium", "a source of them", "none");
}

}  // namespace

uint64_t keyed_hash(std::string_view secret, const std::vector<std::string_view>& parts) {
  start_sodium();
  crypto_auth_hmacsha256_state state;
  const auto* key = reinterpret_cast<const unsigned char*>(secret.data());
  crypto_auth_hmacsha256_init(&state, key, secret.size());
  const auto add = [&](std::string_view text) {
    crypto_auth_hmacsha256_update(&state, reinterpret_cast<const unsigned char*>(text.data()),
                                  text.size());
  };
  for (const std::string_view part : parts) {
    add(std::to_string(part.size()) + ":");
    add(part);
  }
  unsigned char mac[crypto_auth_hmacsha256_BYTES];
  crypto_auth_hmacsha256_final(&state, mac);
  uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof value; ++i) value = value << 8 | mac[i];
  return value;
}

double keyed_uniform(std::string_view secret, const std::vector<std::string_view>& parts) {
  return static_cast<double>(keyed_hash(secret, parts) >> 11) * 0x1.0p-53;
}

std::string random_hex(std::size_t bytes) {
  start_sodium();
  std::string raw(bytes, '\0'), text(2 * bytes + 1, '\0');
  randombytes_buf(raw.data(), bytes);
  sodium_bin2hex(text.data(), text.size(), reinterpret_cast<unsigned char*>(raw.data()), bytes);
  text.pop_back();
  return text;
}

std::vector<uint8_t> latin_order(int64_t k, int64_t shift, bool mirrored) {
  std::vector<uint8_t> shown;
  for (int64_t p = 0; p < k; ++p) {
    shown.push_back(static_cast<uint8_t>((shift + (mirrored ? k - p : p)) % k));
  }
  return shown;
}

int64_t balanced_shift(const std::vector<int64_t>& counts, uint64_t hash) {
  const int64_t least = *std::min_element(counts.begin(), counts.end());
  const auto ties = static_cast<uint64_t>(std::count(counts.begin(), counts.end(), least));
  uint64_t skip = hash % ties;
  for (std::size_t shift = 0;; ++shift) {
    if (counts[shift] == least && skip-- == 0) return static_cast<int64_t>(shift);
  }
}

LatinRow turned_round(int64_t k, LatinRow row) {
  // shown[k - 1 - p] = (shift + k - 1 - p) mod k, and mirrored (shift + 1 + p) mod k.
  if (row.mirrored) return {(row.shift + 1) % k, false};
  return {(row.shift + k - 1) % k, true};
}

}  // namespace hone::data
