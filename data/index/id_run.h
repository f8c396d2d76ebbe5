#pragma once

// One file of the id index: which ids a range of segments holds. Ids are kept as keyed 128-bit
// fingerprints, sorted, with a directory over their leading bits: a look-up costs two reads of
// memory however many there are. Derived from the segments, so it may be lost at any time.

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "data/index/siphash.h"
#include "data/mapped_file.h"

namespace hone::data {

/// Kinds of ids, and how many words are kept beside each.
enum class IdKind : uint8_t { kItem, kRating, kComparison, kDemonstration, kAnswer };
constexpr std::array<std::size_t, 5> kIdWords = {2, 1, 1, 1, 0};
constexpr std::size_t kIdKinds = kIdWords.size();

/// Words: of an item its number and a hash of its content, of a rating the bits of its value, of a
/// comparison or demonstration a hash of its content.
using IdWords = std::array<uint64_t, 2>;

struct IdEntry {
  Fingerprint id;
  IdWords words{};
};
using IdEntries = std::array<std::vector<IdEntry>, kIdKinds>;

/// Segments first to last, and the SHA-256 over their SHA-256s: a run of others is no use.
struct IdRange {
  int64_t first = 0, last = 0;
  std::string covers;
};

/// Where a kind's entries and their directory stand in the file.
struct IdSection {
  uint64_t count = 0, entries_at = 0, directory_at = 0;
};

class IdRun {
 public:
  /// Throws CorruptError when the header is not, byte for byte, one that is written here, or the
  /// file has another length.
  static IdRun from_file(const std::filesystem::path& path);
  static IdRun from_image(std::string image);

  /// False when the run does not have the id.
  bool find(IdKind kind, const Fingerprint& id, IdWords& words) const;
  uint64_t count(IdKind kind) const { return sections_[static_cast<std::size_t>(kind)].count; }
  uint64_t entries() const;
  IdEntry entry(IdKind kind, uint64_t index) const;
  const IdRange& range() const { return range_; }
  const SipKey& key() const { return key_; }
  bool is_in_memory() const { return !image_.empty(); }
  const std::string& image() const { return image_; }
  /// The SHA-256 of everything behind the header is what the header says.
  bool is_whole() const;

 private:
  void parse(const std::string& name);
  std::string_view bytes() const { return image_.empty() ? file_.bytes() : image_; }

  MappedFile file_;
  std::string image_;
  std::array<IdSection, kIdKinds> sections_;
  IdRange range_;
  SipKey key_{};
  std::string body_;
};

/// Whether the file is of an earlier version, which the next writer makes anew.
bool is_earlier_run(const std::filesystem::path& path);

/// The run as a file. Sorts the entries.
std::string encode_id_run(const IdRange& range, const SipKey& key, IdEntries& entries);

/// Writes both runs as one to a new file through a small buffer. Throws IoError.
void merge_id_runs(const IdRun& a, const IdRun& b, const IdRange& range,
                   const std::filesystem::path& path);

}  // namespace hone::data
