#include "data/service/secrets.h"

#include <sodium.h>

#include <semaphore>
#include <vector>

#include "data/error.h"

namespace hone::data::service {
namespace {

void start_sodium() {
  static const int started = sodium_init();
  if (started < 0) throw IoError("libsodium", "start", "success", "failure");
}

/// A login storm may not take all memory.
std::counting_semaphore<2>& password_slots() {
  static std::counting_semaphore<2> slots(2);
  return slots;
}

class PasswordSlot {
 public:
  PasswordSlot() { password_slots().acquire(); }
  ~PasswordSlot() { password_slots().release(); }
};

}  // namespace

std::string random_token(size_t bytes) {
  start_sodium();
  std::vector<unsigned char> random(bytes);
  randombytes_buf(random.data(), random.size());
  constexpr int kVariant = sodium_base64_VARIANT_URLSAFE_NO_PADDING;
  std::string text(sodium_base64_encoded_len(bytes, kVariant), '\0');
  sodium_bin2base64(text.data(), text.size(), random.data(), random.size(), kVariant);
  text.pop_back();  // its final zero
  return text;
}

std::string random_name(size_t characters) {
  start_sodium();
  static constexpr std::string_view kAlphabet = "abcdefghjkmnpqrstvwxyz23456789";
  std::string name;
  for (size_t i = 0; i < characters; ++i) {
    name += kAlphabet[randombytes_uniform(static_cast<uint32_t>(kAlphabet.size()))];
  }
  return name;
}

std::string keyed_hash(std::string_view key, std::string_view text) {
  start_sodium();
  unsigned char digest[32];
  if (crypto_generichash(digest, sizeof digest, reinterpret_cast<const unsigned char*>(text.data()),
                         text.size(), reinterpret_cast<const unsigned char*>(key.data()),
                         key.size()) != 0) {
    throw InputError("keyed_hash", "key", "16 to 64 bytes", std::to_string(key.size()));
  }
  char hex[2 * sizeof digest + 1];
  sodium_bin2hex(hex, sizeof hex, digest, sizeof digest);
  return hex;
}

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  return a.size() == b.size() && sodium_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string password_hash(std::string_view password) {
  start_sodium();
  const PasswordSlot slot;
  char hash[crypto_pwhash_STRBYTES];
  if (crypto_pwhash_str_alg(hash, password.data(), password.size(),
                            crypto_pwhash_OPSLIMIT_INTERACTIVE, crypto_pwhash_MEMLIMIT_INTERACTIVE,
                            crypto_pwhash_ALG_ARGON2ID13) != 0) {
    throw IoError("password", "Argon2id", "64 MB of memory", "too little");
  }
  return hash;
}

bool password_matches(const std::string& hash, std::string_view password) {
  start_sodium();
  static const std::string nobody = password_hash(random_token());
  const std::string& against = hash.empty() ? nobody : hash;
  const PasswordSlot slot;
  const bool matches =
      crypto_pwhash_str_verify(against.c_str(), password.data(), password.size()) == 0;
  return matches && !hash.empty();
}

}  // namespace hone::data::service
