#pragma once

// Draws that nobody can foresee and everybody with the store's secret can repeat: which candidate
// stands where, and when a gold question or a repeat comes.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hone::data {

/// HMAC-SHA-256 (RFC 2104) of the parts, each with its length before it, as 64 bits.
uint64_t keyed_hash(std::string_view secret, const std::vector<std::string_view>& parts);

/// The same in [0, 1).
double keyed_uniform(std::string_view secret, const std::vector<std::string_view>& parts);

/// Bytes from the operating system; hexadecimal.
std::string random_hex(std::size_t bytes);

/// Row `shift` of a Latin square of size k: over k questions with each shift once, every candidate
/// stood once at every position. shown[p] = (p + shift) mod k, or (shift - p) mod k when mirrored;
/// for two candidates both are the same: 0 as given, 1 swapped.
std::vector<uint8_t> latin_order(int64_t k, int64_t shift, bool mirrored);

/// The shift for the rater's next question of k candidates: drawn by `hash` among those that they
/// have answered least often, so that no two counts ever differ by more than 1.
int64_t balanced_shift(const std::vector<int64_t>& counts, uint64_t hash);

/// The shift and mirroring of the order turned round: position p becomes k - 1 - p.
struct LatinRow {
  int64_t shift = 0;
  bool mirrored = false;
};
LatinRow turned_round(int64_t k, LatinRow row);

}  // namespace hone::data
