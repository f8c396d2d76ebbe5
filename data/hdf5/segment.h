#pragma once

// One segment as a file: a 512-byte preamble in plain text, then HDF5 (data/FORMAT.md).

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "data/store.h"

namespace hone::data::hdf5 {

struct SegmentHeader {
  int64_t items = 0, ratings = 0, comparisons = 0, demonstrations = 0;
  int64_t items_before = 0;  // items in all earlier segments: what item indices count from
  std::string digest;        // over the columns' digests
  std::string created;       // ISO 8601
};

/// The file's bytes. Item indices in `records` are store-wide.
std::string encode_segment(const Records& records, int64_t items_before,
                           const std::string& created);

/// Counts and digest, from the preamble and the root attributes. Throws CorruptError (also for a
/// file of another length than the preamble says).
SegmentHeader read_segment_header(const std::filesystem::path& path);

/// Appends the segment's records, in order, to `records`, whose items must be all earlier items.
/// Throws CorruptError when the file's digest does not match (naming the column whose own digest
/// does not, if there is one) or a column cannot be what the schema says.
SegmentHeader read_segment(const std::filesystem::path& path, Records& records);

/// The same, but goes on and appends each finding; rows of columns that cannot be read keep their
/// defaults. Every column's digest is computed.
void verify_segment(const std::filesystem::path& path, Records& records,
                    std::vector<VerifyProblem>& problems);

/// Digest over columns: SHA-256 of "<path> <sha256>\n" in order of path.
std::string digest_of_columns(const std::map<std::string, std::string>& digests);

}  // namespace hone::data::hdf5
