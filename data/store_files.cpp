#include "data/store_files.h"

#include <algorithm>
#include <cstdio>

#include "data/error.h"
#include "data/hdf5/schema.h"
#include "data/invariants.h"

namespace hone::data {
namespace {

/// 0 when `name` is not a segment's.
int64_t segment_number(const std::string& name) {
  constexpr std::size_t kDigitsAt = 8, kDigits = 6;
  if (name.size() != kDigitsAt + kDigits + 3) return 0;
  const std::string digits = name.substr(kDigitsAt, kDigits);
  if (!std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    return 0;
  }
  const int64_t number = std::stoll(digits);
  return name == segment_name(number) ? number : 0;
}

/// The paths in a directory; none when there is no such directory.
std::vector<std::filesystem::path> list_directory(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> paths;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    paths.push_back(entry->path());
  }
  if (error && error != std::errc::no_such_file_or_directory &&
      error != std::errc::not_a_directory) {
    throw IoError(directory.string(), "list", "success", error.message());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

template <class Record>
void check_records(const std::filesystem::path& path, const std::vector<Record>& records,
                   std::size_t first, std::size_t items) {
  for (std::size_t i = first; i < records.size(); ++i) {
    const std::string problem = problem_of(records[i], static_cast<int64_t>(items));
    if (!problem.empty()) {
      throw CorruptError(path.string() + ": /" + hdf5::Schema<Record>::kGroup + "/" + problem +
                         " in row " + std::to_string(i - first));
    }
  }
}

}  // namespace

std::filesystem::path segments_directory(const std::filesystem::path& store) {
  return store / "segments";
}

std::string segment_name(int64_t number) {
  char name[32];
  std::snprintf(name, sizeof name, "segment-%06lld.h5", static_cast<long long>(number));
  return name;
}

std::vector<std::filesystem::path> segment_paths(const std::filesystem::path& store) {
  std::vector<std::filesystem::path> segments;
  for (const auto& path : list_directory(segments_directory(store))) {
    const int64_t number = segment_number(path.filename().string());
    if (number == 0) continue;
    const auto expected = static_cast<int64_t>(segments.size()) + 1;
    if (number != expected) {
      throw CorruptError(segments_directory(store).string(), "segments", segment_name(expected),
                         path.filename().string());
    }
    segments.push_back(path);
  }
  return segments;
}

std::vector<std::filesystem::path> leftover_files(const std::filesystem::path& store) {
  std::vector<std::filesystem::path> leftovers;
  for (const auto& directory :
       {store, segments_directory(store), store / "rejects", store / "index"}) {
    for (const auto& path : list_directory(directory)) {
      const std::string name = path.filename().string();
      if (name.starts_with('.') && name.find(".tmp-") != std::string::npos) {
        leftovers.push_back(path);
      }
    }
  }
  return leftovers;
}

Records read_all_segments(const std::filesystem::path& store) {
  Records records;
  for (const auto& path : segment_paths(store)) {
    const std::size_t items = records.items.size();
    std::vector<std::size_t> before;  // rows of each kind
    hdf5::visit_kinds(records, [&](const auto& rows, auto) { before.push_back(rows.size()); });
    const hdf5::SegmentHeader header = hdf5::read_segment(path, records);
    if (header.items_before != static_cast<int64_t>(items)) {
      throw CorruptError(path.string(), "attribute items_before", std::to_string(items),
                         std::to_string(header.items_before));
    }
    std::size_t kind = 0;
    hdf5::visit_kinds(records, [&](const auto& rows, auto) {
      check_records(path, rows, before[kind++], records.items.size());
    });
  }
  return records;
}

SegmentInfo segment_info(const std::filesystem::path& path, const hdf5::SegmentHeader& header) {
  SegmentInfo info;
  info.name = path.filename().string();
  info.bytes = header.bytes;
  info.items = static_cast<uint64_t>(header.items);
  info.ratings = static_cast<uint64_t>(header.ratings);
  info.comparisons = static_cast<uint64_t>(header.comparisons);
  info.demonstrations = static_cast<uint64_t>(header.demonstrations);
  info.answers = static_cast<uint64_t>(header.answers);
  info.sha256 = header.digest;
  info.created = header.created;
  return info;
}

}  // namespace hone::data
