#pragma once

// The plain text before the HDF5 data of a segment (its HDF5 "user block", which every HDF5 reader
// skips): format, length and SHA-256 of the rest, so that damage is seen before HDF5 parses it.

#include <cstdint>
#include <filesystem>
#include <string>

namespace hone::data::hdf5 {

/// The smallest user block that HDF5 allows.
constexpr uint64_t kPreambleBytes = 512;

/// Fills in the first kPreambleBytes of a segment's bytes.
void write_preamble(std::string& image);

/// The SHA-256 that the preamble gives for the bytes after it. Throws CorruptError when this is no
/// segment, one of a newer version, or one of another length than it says.
std::string read_preamble(const std::filesystem::path& path);

/// The SHA-256 of the bytes after the preamble. Throws IoError.
std::string digest_after_preamble(const std::filesystem::path& path);

}  // namespace hone::data::hdf5
