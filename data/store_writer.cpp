#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <chrono>
#include <ctime>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/file_descriptor.h"
#include "data/invariants.h"
#include "data/sha256.h"
#include "data/store.h"
#include "data/store_files.h"

namespace hone::data {
namespace {

/// What makes two items of one id the same; where they came from may differ.
std::string content_digest(const Item& item) {
  Sha256 digest;
  digest.update(std::to_string(item.prompt.size()) + (item.prompt_is_messages ? "m" : "t"));
  digest.update(item.prompt);
  digest.update(item.text);
  return digest.hex().substr(0, 32);
}

std::string rating_key(const Rating& rating) {
  return std::to_string(rating.item) + " " + std::to_string(rating.rater.size()) + " " +
         rating.rater + rating.dimension;
}

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

}  // namespace

struct StoreWriter::Impl {
  struct KnownItem {
    int64_t index;
    std::string content;
  };

  explicit Impl(const std::filesystem::path& store) : directory(store), lock(take_lock(store)) {
    for (const auto& path : leftover_files(directory)) std::filesystem::remove(path);
    const Records stored = read_all_segments(directory);
    for (const Item& item : stored.items) remember(item);
    for (const Rating& rating : stored.ratings) ratings.emplace(rating_key(rating), rating.value);
    for (const Comparison& comparison : stored.comparisons) comparisons.insert(comparison.id);
    for (const Demonstration& one : stored.demonstrations) demonstrations.insert(one.id);
    items_before = item_count();
  }

  int64_t item_count() const { return static_cast<int64_t>(items.size()); }

  void remember(const Item& item) {
    items.emplace(item.id, KnownItem{item_count(), content_digest(item)});
  }

  std::filesystem::path directory;
  FileDescriptor lock;
  std::unordered_map<std::string, KnownItem> items;
  std::unordered_map<std::string, double> ratings;
  std::unordered_set<std::string> comparisons, demonstrations;
  int64_t items_before = 0;
  Records pending;
};

StoreWriter::StoreWriter(const Store& store) : impl_(std::make_unique<Impl>(store.directory())) {}
StoreWriter::StoreWriter(StoreWriter&&) noexcept = default;
StoreWriter::~StoreWriter() = default;

int64_t StoreWriter::add_item(Item item) {
  require_sound("item", item, 0);
  if (const auto known = impl_->items.find(item.id); known != impl_->items.end()) {
    if (known->second.content != content_digest(item)) {
      throw InputError("item " + item.id, "prompt and text", "those stored under this id",
                       "others");
    }
    return known->second.index;
  }
  impl_->remember(item);
  impl_->pending.items.push_back(std::move(item));
  return impl_->item_count() - 1;
}

int64_t StoreWriter::find_item(const std::string& id) const {
  const auto known = impl_->items.find(id);
  return known == impl_->items.end() ? -1 : known->second.index;
}

int64_t StoreWriter::item_count() const { return impl_->item_count(); }

std::optional<double> StoreWriter::find_rating(const Rating& rating) const {
  const auto known = impl_->ratings.find(rating_key(rating));
  if (known == impl_->ratings.end()) return std::nullopt;
  return known->second;
}

bool StoreWriter::add_rating(Rating rating) {
  require_sound("rating", rating, impl_->item_count());
  if (!impl_->ratings.emplace(rating_key(rating), rating.value).second) return false;
  impl_->pending.ratings.push_back(std::move(rating));
  return true;
}

bool StoreWriter::add_comparison(Comparison comparison) {
  require_sound("comparison", comparison, impl_->item_count());
  if (!impl_->comparisons.insert(comparison.id).second) return false;
  impl_->pending.comparisons.push_back(std::move(comparison));
  return true;
}

bool StoreWriter::add_demonstration(Demonstration demonstration) {
  require_sound("demonstration", demonstration, 0);
  if (!impl_->demonstrations.insert(demonstration.id).second) return false;
  impl_->pending.demonstrations.push_back(std::move(demonstration));
  return true;
}

SegmentInfo StoreWriter::seal() {
  const Records& pending = impl_->pending;
  if (pending.items.empty() && pending.ratings.empty() && pending.comparisons.empty() &&
      pending.demonstrations.empty()) {
    return {};
  }
  const auto number = static_cast<int64_t>(segment_paths(impl_->directory).size()) + 1;
  const auto path = segments_directory(impl_->directory) / segment_name(number);
  write_file_atomically(path, hdf5::encode_segment(pending, impl_->items_before, now_text()));
  impl_->items_before = impl_->item_count();
  impl_->pending = {};
  return segment_info(path, hdf5::read_preamble(path));
}

}  // namespace hone::data
