#pragma once

// What stands in plain text around the HDF5 data of a segment: before it the preamble (HDF5 calls
// it a user block and skips it), after it a list of the columns' places. Both are there because
// HDF5's library does not survive every damaged file: damage is found, and put down to a column,
// before it parses anything.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/hdf5/io.h"

namespace hone::data::hdf5 {

/// A user block is a power of two from 512 up.
constexpr uint64_t kPreambleBytes = 1024;

struct SegmentHeader {
  int64_t version = 1;
  int64_t items = 0, ratings = 0, comparisons = 0, demonstrations = 0;
  int64_t answers = 0, corrections = 0, spans = 0, steps = 0, reviews = 0, flags = 0;  // version 2
  int64_t items_before = 0;  // items in all earlier segments: what item indices count from
  std::string created;       // ISO 8601
  std::string digest;        // over the columns' digests
  // Of the file:
  uint64_t bytes = 0;
  uint64_t list_offset = 0;  // of the list of columns
  std::string sha256;        // of all bytes after the preamble
};

/// The counts of a version, by their names in the file.
std::vector<std::pair<const char*, int64_t SegmentHeader::*>> header_counts(int64_t version);

/// Digest over columns: SHA-256 of "<path> <sha256>\n" in order of path.
std::string digest_of_columns(const std::map<std::string, ColumnExtent>& columns);

/// Appends the list of columns and fills in the preamble: of `header`, the counts and `created`
/// are used. `image` begins with kPreambleBytes to be filled.
void wrap_segment(std::string& image, SegmentHeader header,
                  const std::map<std::string, ColumnExtent>& columns);

/// The preamble, which has a SHA-256 of its own. Throws CorruptError when this is no segment, one
/// of another version, damaged here (its lines are taken only as they are written here, byte for
/// byte), or of another length than it says.
SegmentHeader read_preamble(const std::filesystem::path& path);

/// The same from the first kPreambleBytes of a file of `file_bytes`.
SegmentHeader parse_preamble(const std::filesystem::path& path, const std::string& text,
                             uint64_t file_bytes);

/// The list of columns behind the HDF5 data of a file in memory; extents lie within the file.
/// Throws CorruptError.
std::map<std::string, ColumnExtent> parse_column_list(const std::string& name,
                                                      std::string_view file,
                                                      const SegmentHeader& header);

/// The SHA-256 of the bytes after the preamble. Throws IoError.
std::string digest_after_preamble(const std::filesystem::path& path);

/// The columns of a file with a sound preamble whose bytes are not those of their SHA-256: path and
/// what was expected and came. Empty when the damage lies between them, or in the list itself.
std::vector<std::pair<std::string, std::string>> damaged_columns(std::string_view file,
                                                                 const SegmentHeader& header);
std::vector<std::pair<std::string, std::string>> damaged_columns(const std::filesystem::path& path,
                                                                 const SegmentHeader& header);

}  // namespace hone::data::hdf5
