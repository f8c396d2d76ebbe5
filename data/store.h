#pragma once

// The feedback store: a directory of immutable, checksummed HDF5 segments (data/FORMAT.md). A
// writer collects records in memory and seals them as one new segment: temporary file, flush,
// fsync, rename, fsync of the directory. A reader sees the concatenation of all segments.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/records.h"

namespace hone::data {

/// All records of a store in memory, in segment order. Item indices are store-wide.
struct Records {
  std::vector<Item> items;
  std::vector<Rating> ratings;
  std::vector<Comparison> comparisons;
  std::vector<Demonstration> demonstrations;
  std::vector<Answer> answers;
  std::vector<Correction> corrections;
  std::vector<Span> spans;
  std::vector<Step> steps;
  std::vector<Review> reviews;
  std::vector<Flag> flags;
};

/// Everything that one answer at the page says. The items are stored.
struct AnswerRecords {
  Answer answer;
  std::vector<Comparison> comparisons;
  std::vector<Rating> ratings;
  std::vector<Demonstration> demonstrations;
  std::vector<Correction> corrections;
  std::vector<Span> spans;
  std::vector<Step> steps;
  std::vector<Review> reviews;
  std::vector<Flag> flags;
};

struct SegmentInfo {
  std::string name;  // segment-000001.h5
  uint64_t bytes = 0;
  uint64_t items = 0, ratings = 0, comparisons = 0, demonstrations = 0, answers = 0;
  std::string sha256;   // digest over the columns' digests
  std::string created;  // ISO 8601
};

struct VerifyProblem {
  std::string segment;
  std::string column;  // dataset path, or empty for the whole file
  std::string message;
};

class StoreWriter;

class Store {
 public:
  /// Opens an existing store; `create` makes an empty one. Throws InputError when `directory` is
  /// something else, CorruptError when a segment's header cannot be read.
  static Store open(const std::filesystem::path& directory, bool create = false);

  /// The same without looking at the segments, so that verify() can say what is wrong with them.
  static Store open_unchecked(const std::filesystem::path& directory);

  const std::filesystem::path& directory() const { return directory_; }
  std::vector<SegmentInfo> segments() const;

  /// Reads and checks every column it reads; throws CorruptError naming segment and column.
  /// Comparisons and demonstrations superseded by a later one are left out.
  Records read() const;

  /// Every checksum and invariant (offsets rising, indices in range, ranks per item, unique ids).
  std::vector<VerifyProblem> verify() const;

  /// Digest of all segments' digests: the store's identity for provenance and stage skipping.
  std::string hash() const;

 private:
  friend class StoreWriter;
  explicit Store(std::filesystem::path directory) : directory_(std::move(directory)) {}
  std::filesystem::path directory_;
};

/// Collects records and seals them. Records whose id the store already holds are dropped, so that
/// importing the same file twice adds nothing; what the store holds is known from an index beside
/// it (STORE/index), so that opening and adding cost the same whatever the store's size. Memory is
/// bounded: every `segment_bytes` of records are written as a hidden file, and seal() puts all of
/// them in place.
class StoreWriter {
 public:
  static constexpr uint64_t kSegmentBytes = uint64_t{64} << 20;

  explicit StoreWriter(const Store& store, uint64_t segment_bytes = kSegmentBytes);
  /// A writer without store, which cannot seal: for checking what records would be added.
  StoreWriter();
  StoreWriter(StoreWriter&&) noexcept;
  ~StoreWriter();  // drops what was not sealed

  /// Index of the item in the store (the existing one if the id is known). Throws InputError when
  /// the id is known with another content.
  int64_t add_item(const Item& item);
  /// -1 when unknown.
  int64_t find_item(std::string_view id) const;
  int64_t item_count() const;             // stored and added
  bool add_rating(const Rating& rating);  // false: already there (same item, rater, dimension)
  /// The value already there for the same item, rater and dimension.
  std::optional<double> find_rating(const Rating& rating) const;
  bool add_comparison(const Comparison& comparison);  // false: its id is known
  bool add_demonstration(const Demonstration& demonstration);
  /// The id is known of another answer: by another person, to another outcome, about other texts.
  bool has_other(const Comparison& comparison) const;
  bool has_other(const Demonstration& demonstration) const;  // or: of another prompt or text
  /// All of it into one segment, or nothing (false) when the answer is there. What else the store
  /// has under the same id, or of a rating the same item, rater and dimension, is left out.
  bool add_answer(const AnswerRecords& records);

  /// Puts everything added into the store as one segment, or several when it is more than
  /// `segment_bytes`; returns the last, and an empty one when nothing was added. Throws IoError
  /// (disk full, ...): the store is then as before. If it fails among the renames of several
  /// segments, the first of them are in place; adding the same records again adds the rest. A
  /// writer that failed so takes nothing more: open another.
  SegmentInfo seal();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hone::data
