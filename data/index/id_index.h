#pragma once

// Which ids a store holds, without reading the store: what a writer needs to drop what is known.
// A few files in STORE/index (data/FORMAT.md), each of a range of segments, merged as they grow so
// that there are never more than log2(segments) of them; what is missing or does not fit the
// segments is made anew from them. One writer at a time, under the store's lock.

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "data/hdf5/preamble.h"
#include "data/index/id_run.h"
#include "data/records.h"

namespace hone::data {

std::filesystem::path index_directory(const std::filesystem::path& store);

/// Ids that are in no run yet: an open-addressing table.
class PendingIds {
 public:
  const IdEntry* find(const Fingerprint& id) const;
  void insert(const IdEntry& entry);  // not there yet
  std::size_t size() const { return size_; }
  /// Everything, in no order; the table is then empty.
  std::vector<IdEntry> take();

 private:
  std::size_t place(const Fingerprint& id) const;
  std::vector<IdEntry> slots_;  // an empty one has id {0, 0}
  std::size_t size_ = 0;
};

class IdIndex {
 public:
  /// An empty index of no store, for records that are never sealed.
  IdIndex();
  /// `segments`: the headers of all sealed segments, in order.
  IdIndex(const std::filesystem::path& store, const std::vector<hdf5::SegmentHeader>& segments);
  IdIndex(IdIndex&&) = default;
  IdIndex& operator=(IdIndex&&) = default;
  ~IdIndex();  // removes what was staged and not published

  Fingerprint id_of(std::string_view id) const;
  Fingerprint id_of(const Rating& rating) const;
  /// What makes two records of one id the same: of an item prompt and text, of a comparison who
  /// said what of which items, of a demonstration prompt and completion.
  uint64_t content_of(const Item& item) const;
  uint64_t content_of(const Comparison& comparison) const;
  uint64_t content_of(const Demonstration& demonstration) const;

  /// False when the id is unknown.
  bool find(IdKind kind, const Fingerprint& id, IdWords& words) const;
  /// False when the id is known already.
  bool insert(IdKind kind, const Fingerprint& id, const IdWords& words = {});
  /// Of an id that find() has just not found.
  void insert_new(IdKind kind, const Fingerprint& id, const IdWords& words) {
    pending_[static_cast<std::size_t>(kind)].insert({id, words});
  }

  /// The pending ids are those of the next segment, whose file has this SHA-256.
  void stage(const std::string& segment_sha256);
  /// The staged segments are in place: so are their runs. Never fails: a run that cannot be written
  /// is kept in memory and made anew by the next writer.
  void publish() noexcept;

 private:
  uint64_t content_of(std::initializer_list<std::string_view> parts) const;
  struct Run {
    IdRun run;
    std::filesystem::path file, temporary;  // temporary: to be renamed to file by publish()
  };
  void load();
  void rebuild(int64_t segment, int64_t items_before);
  std::string covers(int64_t first, int64_t last) const;
  void push(IdRange range, IdEntries& entries);
  void merge_last();
  std::filesystem::path file_of(const IdRange& range) const;
  std::filesystem::path temporary_of(const std::filesystem::path& file);

  std::filesystem::path store_;
  SipKey key_{};
  std::vector<std::string> segments_;            // SHA-256 of each segment, staged ones last
  std::vector<Run> runs_;                        // in order of segment
  std::vector<std::filesystem::path> obsolete_;  // replaced by a merged run
  std::array<PendingIds, kIdKinds> pending_;
  uint64_t temporaries_ = 0;
};

/// Files of the index that are not what they were when written: "index/<name>: ...".
std::vector<std::string> damaged_index_files(const std::filesystem::path& store);

}  // namespace hone::data
