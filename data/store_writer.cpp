#include <fcntl.h>
#include <sys/file.h>

#include <bit>
#include <cerrno>
#include <chrono>
#include <ctime>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/file_descriptor.h"
#include "data/index/id_index.h"
#include "data/invariants.h"
#include "data/store.h"
#include "data/store_files.h"

namespace hone::data {
namespace {

FileDescriptor take_lock(const std::filesystem::path& store) {
  const auto path = store / "lock";
  FileDescriptor file = open_file(path, O_RDWR | O_CREAT);
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) throw_errno(path, "lock");
    throw IoError(store.string(), "open for writing", "no other writer",
                  "a lock held by another writer (one process at a time may write to a store)");
  }
  return file;
}

std::string now_text() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

template <class Record>
void require_sound(const char* operation, const Record& record, int64_t items) {
  const std::string problem = problem_of(record, items);
  if (!problem.empty()) throw InputError(std::string(operation) + ": " + problem);
}

std::vector<hdf5::SegmentHeader> read_headers(const std::filesystem::path& store) {
  std::vector<hdf5::SegmentHeader> headers;
  int64_t items = 0;
  for (const auto& path : segment_paths(store)) {
    headers.push_back(hdf5::read_preamble(path));
    if (headers.back().items_before != items) {
      throw CorruptError(path.string(), "items_before", std::to_string(items),
                         std::to_string(headers.back().items_before));
    }
    items += headers.back().items;
  }
  return headers;
}

}  // namespace

struct StoreWriter::Impl {
  /// A segment under its hidden name.
  struct Staged {
    std::filesystem::path temporary, path;
  };

  Impl() = default;
  Impl(const std::filesystem::path& store, uint64_t most_bytes)
      : directory(store), lock(take_lock(store)), segment_bytes(most_bytes) {
    for (const auto& path : leftover_files(directory)) std::filesystem::remove(path);
    const std::vector<hdf5::SegmentHeader> headers = read_headers(directory);
    segments = static_cast<int64_t>(headers.size());
    if (!headers.empty()) items_before = headers.back().items_before + headers.back().items;
    items = items_before;
    index = IdIndex(directory, headers);
  }
  ~Impl() {
    std::error_code ignored;
    for (const Staged& one : staged) std::filesystem::remove(one.temporary, ignored);
  }

  void require_usable() const {
    if (failed) throw Error(directory.string(), "write", "a writer that never failed", "another");
  }

  template <class Record>
  bool insert(IdKind kind, const Record& record) {
    return index.insert(kind, index.id_of(record.id), {index.content_of(record), 0});
  }
  template <class Record>
  bool has_other(IdKind kind, const Record& record) const {
    IdWords words;
    return index.find(kind, index.id_of(record.id), words) && words[0] != index.content_of(record);
  }

  /// After each record.
  void added() {
    constexpr int64_t kRowsBetweenLooks = 1024;
    if (++rows % kRowsBetweenLooks != 0 || directory.empty()) return;
    uint64_t bytes = 0;
    hdf5::visit_kinds(pending, [&](const auto& kind, auto) { bytes += kind.bytes(); });
    if (bytes >= segment_bytes) stage();
  }

  /// Writes the pending records as the next segment, under a hidden name.
  void stage() {
    const auto path = segments_directory(directory) /
                      segment_name(segments + static_cast<int64_t>(staged.size()) + 1);
    const std::string image = hdf5::encode_segment(pending, items_before, now_text());
    const hdf5::SegmentHeader header =
        hdf5::parse_preamble(path, image.substr(0, hdf5::kPreambleBytes), image.size());
    staged.push_back({write_temporary_file(path, image), path});
    index.stage(header.sha256);
    info = segment_info(path, header);
    items_before = items;
    rows = 0;
    hdf5::visit_kinds(pending, [](auto& kind, auto) { kind.clear(); });
  }

  std::filesystem::path directory;
  FileDescriptor lock;
  uint64_t segment_bytes = kSegmentBytes;
  IdIndex index;
  int64_t segments = 0;      // sealed
  int64_t items = 0;         // stored, staged and pending
  int64_t items_before = 0;  // without the pending ones
  int64_t rows = 0;          // pending
  bool failed = false;
  hdf5::RecordColumns pending;
  std::vector<Staged> staged;
  SegmentInfo info;  // of the last staged
};

StoreWriter::StoreWriter() : impl_(std::make_unique<Impl>()) {}
StoreWriter::StoreWriter(const Store& store, uint64_t segment_bytes)
    : impl_(std::make_unique<Impl>(store.directory(), segment_bytes)) {}
StoreWriter::StoreWriter(StoreWriter&&) noexcept = default;
StoreWriter::~StoreWriter() = default;

int64_t StoreWriter::add_item(const Item& item) {
  require_sound("item", item, 0);
  const Fingerprint id = impl_->index.id_of(item.id);
  const uint64_t content = impl_->index.content_of(item);
  IdWords words;
  if (impl_->index.find(IdKind::kItem, id, words)) {
    if (words[1] != content) {
      throw InputError("item " + item.id, "prompt and text", "those stored under this id",
                       "others");
    }
    return static_cast<int64_t>(words[0]);
  }
  const int64_t number = impl_->items++;
  impl_->index.insert_new(IdKind::kItem, id, {static_cast<uint64_t>(number), content});
  impl_->pending.items.append(item);
  impl_->added();
  return number;
}

int64_t StoreWriter::find_item(std::string_view id) const {
  IdWords words;
  const bool found = impl_->index.find(IdKind::kItem, impl_->index.id_of(id), words);
  return found ? static_cast<int64_t>(words[0]) : -1;
}

int64_t StoreWriter::item_count() const { return impl_->items; }

std::optional<double> StoreWriter::find_rating(const Rating& rating) const {
  IdWords words;
  if (!impl_->index.find(IdKind::kRating, impl_->index.id_of(rating), words)) return std::nullopt;
  return std::bit_cast<double>(words[0]);
}

bool StoreWriter::add_rating(const Rating& rating) {
  require_sound("rating", rating, impl_->items);
  const Fingerprint id = impl_->index.id_of(rating);
  if (!impl_->index.insert(IdKind::kRating, id, {std::bit_cast<uint64_t>(rating.value), 0})) {
    return false;
  }
  impl_->pending.ratings.append(rating);
  impl_->added();
  return true;
}

bool StoreWriter::add_comparison(const Comparison& comparison) {
  require_sound("comparison", comparison, impl_->items);
  if (!impl_->insert(IdKind::kComparison, comparison)) return false;
  impl_->pending.comparisons.append(comparison);
  impl_->added();
  return true;
}

bool StoreWriter::add_demonstration(const Demonstration& demonstration) {
  require_sound("demonstration", demonstration, 0);
  if (!impl_->insert(IdKind::kDemonstration, demonstration)) return false;
  impl_->pending.demonstrations.append(demonstration);
  impl_->added();
  return true;
}

bool StoreWriter::has_other(const Comparison& comparison) const {
  return impl_->has_other(IdKind::kComparison, comparison);
}

bool StoreWriter::has_other(const Demonstration& demonstration) const {
  return impl_->has_other(IdKind::kDemonstration, demonstration);
}

bool StoreWriter::add_answer(const AnswerRecords& records) {
  Impl& impl = *impl_;
  const auto each = [&](auto&& visit) {
    for (const auto& one : records.comparisons) visit(one, impl.pending.comparisons);
    for (const auto& one : records.ratings) visit(one, impl.pending.ratings);
    for (const auto& one : records.demonstrations) visit(one, impl.pending.demonstrations);
    for (const auto& one : records.corrections) visit(one, impl.pending.corrections);
    for (const auto& one : records.spans) visit(one, impl.pending.spans);
    for (const auto& one : records.steps) visit(one, impl.pending.steps);
    for (const auto& one : records.reviews) visit(one, impl.pending.reviews);
    for (const auto& one : records.flags) visit(one, impl.pending.flags);
    visit(records.answer, impl.pending.answers);
  };
  each([&](const auto& one, auto&) { require_sound("answer", one, impl.items); });
  if (!impl.index.insert(IdKind::kAnswer, impl.index.id_of(records.answer.id))) return false;
  each([&]<class Record>(const Record& one, auto& pending) {
    bool is_new = true;
    if constexpr (std::is_same_v<Record, Rating>) {
      is_new = impl.index.insert(IdKind::kRating, impl.index.id_of(one),
                                 {std::bit_cast<uint64_t>(one.value), 0});
    } else if constexpr (std::is_same_v<Record, Comparison>) {
      is_new = impl.insert(IdKind::kComparison, one);
    } else if constexpr (std::is_same_v<Record, Demonstration>) {
      is_new = impl.insert(IdKind::kDemonstration, one);
    }
    if (is_new) pending.append(one);
  });
  impl.added();
  return true;
}

SegmentInfo StoreWriter::seal() {
  Impl& impl = *impl_;
  impl.require_usable();
  if (impl.rows > 0) impl.stage();
  if (impl.staged.empty()) return {};
  try {
    for (const Impl::Staged& one : impl.staged) rename_file(one.temporary, one.path);
    sync_directory(segments_directory(impl.directory));
  } catch (...) {
    impl.failed = true;
    throw;
  }
  impl.segments += static_cast<int64_t>(impl.staged.size());
  impl.staged.clear();
  impl.index.publish();
  return impl.info;
}

}  // namespace hone::data
