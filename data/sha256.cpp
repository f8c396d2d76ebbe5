#include "data/sha256.h"

#include <fcntl.h>
#include <openssl/evp.h>

#include <utility>

#include "data/error.h"
#include "data/file_descriptor.h"

namespace hone::data {
namespace {

EVP_MD_CTX* as_context(void* context) { return static_cast<EVP_MD_CTX*>(context); }

/// Looked up once: EVP_sha256() would be looked up for every digest, which costs more than hashing
/// a short text.
const EVP_MD* sha256_algorithm() {
  static const EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  return algorithm;
}

void require(bool ok, const char* operation) {
  if (!ok) throw Error("sha256", operation, "success", "failure of libcrypto");
}

}  // namespace

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  require(context_ != nullptr, "EVP_MD_CTX_new");
  if (EVP_DigestInit_ex(as_context(context_), sha256_algorithm(), nullptr) != 1) {
    EVP_MD_CTX_free(as_context(context_));
    require(false, "EVP_DigestInit_ex");
  }
}

Sha256::Sha256(Sha256&& other) noexcept : context_(std::exchange(other.context_, nullptr)) {}

Sha256::~Sha256() { EVP_MD_CTX_free(as_context(context_)); }

void Sha256::update(const void* bytes, std::size_t size) {
  require(context_ != nullptr, "update after hex()");
  require(EVP_DigestUpdate(as_context(context_), bytes, size) == 1, "EVP_DigestUpdate");
}

std::string Sha256::hex() {
  require(context_ != nullptr, "hex() twice");
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  require(EVP_DigestFinal_ex(as_context(context_), digest, &size) == 1, "EVP_DigestFinal_ex");
  EVP_MD_CTX_free(as_context(std::exchange(context_, nullptr)));
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * size);
  for (unsigned int i = 0; i < size; ++i) {
    text += kDigits[digest[i] >> 4];
    text += kDigits[digest[i] & 15];
  }
  return text;
}

std::string sha256_hex(std::string_view bytes) {
  Sha256 digest;
  digest.update(bytes);
  return digest.hex();
}

std::string sha256_file(const std::filesystem::path& path) {
  const FileDescriptor file = open_file(path, O_RDONLY);
  Sha256 digest;
  std::string buffer(1 << 18, '\0');
  while (const std::size_t got = read_some(file, buffer.data(), buffer.size(), path)) {
    digest.update(buffer.data(), got);
  }
  return digest.hex();
}

}  // namespace hone::data
