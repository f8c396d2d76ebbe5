#pragma once

// Random tokens, keyed hashes, passwords and comparisons that take the same time whatever they find
// (libsodium). Nothing here is ever logged or put into an error.

#include <cstddef>
#include <string>
#include <string_view>

namespace hone::data::service {

/// Random bytes, at least 16, in URL-safe base64.
std::string random_token(size_t bytes = 32);
/// Random lower-case letters and digits that are not mistaken for one another.
std::string random_name(size_t characters);
/// BLAKE2b-256 under `key` (16 to 64 bytes), hexadecimal.
std::string keyed_hash(std::string_view key, std::string_view text);
bool equal_in_constant_time(std::string_view a, std::string_view b);

/// Argon2id. At most two at a time in a process: each takes 64 MB and a tenth of a second.
std::string password_hash(std::string_view password);
/// An empty `hash` takes as long as any other, and is false.
bool password_matches(const std::string& hash, std::string_view password);

}  // namespace hone::data::service
