#pragma once

// Where a store's files lie, and what all of them hold together.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/hdf5/segment.h"
#include "data/store.h"

namespace hone::data {

std::filesystem::path segments_directory(const std::filesystem::path& store);

/// segment-000001.h5 for 1.
std::string segment_name(int64_t number);

/// The sealed segments in order. Throws CorruptError when a number is missing in between.
std::vector<std::filesystem::path> segment_paths(const std::filesystem::path& store);

/// Files that a killed writer left behind. Only the holder of the lock may remove them.
std::vector<std::filesystem::path> leftover_files(const std::filesystem::path& store);

/// Every record, superseded ones too, checked by problem_of. Throws CorruptError naming segment
/// and column.
Records read_all_segments(const std::filesystem::path& store);

SegmentInfo segment_info(const std::filesystem::path& path, const hdf5::SegmentHeader& header);

}  // namespace hone::data
