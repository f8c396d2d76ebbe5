#include "data/store.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/file_descriptor.h"
#include "data/sha256.h"
#include "data/store_files.h"

namespace hone::data {
namespace {

constexpr const char* kStoreFormat = "hone-feedback-store";
constexpr int64_t kStoreVersion = 1;

std::filesystem::path description_path(const std::filesystem::path& directory) {
  return directory / "store.json";
}

void make_directory(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) throw IoError(path.string(), "create directory", "success", error.message());
}

void create_store(const std::filesystem::path& directory) {
  std::error_code error;
  const auto status = std::filesystem::status(directory, error);
  if (std::filesystem::exists(status) && !std::filesystem::is_directory(status)) {
    throw InputError(directory.string(), "create store", "a directory or nothing", "a file");
  }
  if (std::filesystem::is_directory(status) && !std::filesystem::is_empty(directory, error)) {
    if (!std::filesystem::exists(segments_directory(directory))) {
      throw InputError(directory.string(), "create store", "an empty directory or a store",
                       "a directory with other files");
    }
  }
  make_directory(segments_directory(directory));
  const nlohmann::json description = {{"format", kStoreFormat}, {"version", kStoreVersion}};
  write_file_atomically(description_path(directory), description.dump(2) + "\n");
}

void check_description(const std::filesystem::path& path) {
  const auto description = nlohmann::json::parse(read_file(path), nullptr, false);
  const auto field = [&](const char* name) {
    return description.is_object() && description.contains(name) ? description[name]
                                                                 : nlohmann::json();
  };
  const auto text = [](const nlohmann::json& value) {
    return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  };
  if (field("format") != kStoreFormat) {
    throw CorruptError(path.string(), "format", kStoreFormat, text(field("format")));
  }
  if (field("version") != kStoreVersion) {
    throw CorruptError(path.string(), "version", std::to_string(kStoreVersion),
                       text(field("version")));
  }
}

/// Drops the records of one kind that a later one supersedes.
template <class Record>
void drop_superseded(std::vector<Record>& records) {
  const auto supersedes = [](const Record& record) {
    return !record.provenance.supersedes.empty();
  };
  if (std::none_of(records.begin(), records.end(), supersedes)) return;
  std::unordered_set<std::string> superseded;  // by records after the one at hand
  std::vector<bool> dropped(records.size(), false);
  for (std::size_t i = records.size(); i-- > 0;) {
    dropped[i] = superseded.count(records[i].id) != 0;
    superseded.insert(records[i].provenance.supersedes);
  }
  std::size_t at = 0;
  std::erase_if(records, [&](const Record&) { return dropped[at++]; });
}

}  // namespace

Store Store::open_unchecked(const std::filesystem::path& directory) {
  std::error_code error;
  if (!std::filesystem::exists(description_path(directory), error)) {
    const auto status = std::filesystem::status(directory, error);
    throw InputError(directory.string(), "open store", "a directory with store.json",
                     std::filesystem::is_directory(status) ? "none in it"
                     : std::filesystem::exists(status)     ? "a file"
                                                           : "no such directory");
  }
  check_description(description_path(directory));
  return Store(directory);
}

Store Store::open(const std::filesystem::path& directory, bool create) {
  if (directory.empty()) throw InputError("store", "directory", "a path", "nothing");
  std::error_code error;
  if (create && !std::filesystem::exists(description_path(directory), error)) {
    create_store(directory);
  }
  Store store = open_unchecked(directory);
  store.segments();  // their headers must be readable
  return store;
}

std::vector<SegmentInfo> Store::segments() const {
  std::vector<SegmentInfo> infos;
  for (const auto& path : segment_paths(directory_)) {
    infos.push_back(segment_info(path, hdf5::read_preamble(path)));
  }
  return infos;
}

Records Store::read() const {
  Records records = read_all_segments(directory_);
  drop_superseded(records.comparisons);
  drop_superseded(records.demonstrations);
  return records;
}

std::string Store::hash() const {
  Sha256 digest;
  for (const SegmentInfo& info : segments()) digest.update(info.name + " " + info.sha256 + "\n");
  return digest.hex();
}

}  // namespace hone::data
