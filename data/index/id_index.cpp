#include "data/index/id_index.h"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <map>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/file_descriptor.h"
#include "data/hdf5/segment_view.h"
#include "data/sha256.h"
#include "data/store_files.h"

namespace hone::data {
namespace {

constexpr uint64_t kGrowth = 2;  // a run is merged into the one before that is not this much larger

SipKey random_key() {
  SipKey key;
  if (::getrandom(key.data(), sizeof key, 0) != sizeof key) throw_errno("id index", "getrandom");
  return key;
}

std::string name_of(int64_t first, int64_t last) {
  char name[64];
  std::snprintf(name, sizeof name, "ids-%06lld-%06lld.idx", static_cast<long long>(first),
                static_cast<long long>(last));
  return name;
}

/// {first, last} of "ids-000001-000004.idx", {0, 0} of another name.
std::pair<int64_t, int64_t> range_of(const std::string& name) {
  long long first = 0, last = 0;
  if (std::sscanf(name.c_str(), "ids-%lld-%lld", &first, &last) != 2 ||
      name != name_of(first, last)) {
    return {0, 0};
  }
  return {first, last};
}

std::vector<std::filesystem::path> files_in(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    files.push_back(entry->path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

void remove_quietly(const std::filesystem::path& file) {
  std::error_code ignored;
  std::filesystem::remove(file, ignored);
}

}  // namespace

std::filesystem::path index_directory(const std::filesystem::path& store) {
  return store / "index";
}

std::size_t PendingIds::place(const Fingerprint& id) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = id.low & mask;
  while (slots_[at].id != id && slots_[at].id != Fingerprint{}) at = (at + 1) & mask;
  return at;
}

const IdEntry* PendingIds::find(const Fingerprint& id) const {
  if (size_ == 0) return nullptr;
  const IdEntry& slot = slots_[place(id)];
  return slot.id == id ? &slot : nullptr;
}

void PendingIds::insert(const IdEntry& entry) {
  constexpr std::size_t kFirst = 64;
  if (slots_.empty()) slots_.resize(kFirst);
  if (2 * (size_ + 1) > slots_.size()) {
    std::vector<IdEntry> old(2 * slots_.size());
    old.swap(slots_);
    for (const IdEntry& one : old) {
      if (one.id != Fingerprint{}) slots_[place(one.id)] = one;
    }
  }
  slots_[place(entry.id)] = entry;
  ++size_;
}

std::vector<IdEntry> PendingIds::take() {
  std::vector<IdEntry> entries;
  entries.reserve(size_);
  for (const IdEntry& one : slots_) {
    if (one.id != Fingerprint{}) entries.push_back(one);
  }
  slots_ = {};
  size_ = 0;
  return entries;
}

IdIndex::IdIndex() : key_(random_key()) {}

IdIndex::IdIndex(const std::filesystem::path& store,
                 const std::vector<hdf5::SegmentHeader>& segments)
    : store_(store) {
  for (const auto& header : segments) segments_.push_back(header.sha256);
  load();
  if (runs_.empty()) key_ = random_key();
  int64_t known = runs_.empty() ? 0 : runs_.back().run.range().last;
  for (; known < static_cast<int64_t>(segments.size()); ++known) {
    rebuild(known + 1, segments[static_cast<std::size_t>(known)].items_before);
  }
  publish();
}

IdIndex::~IdIndex() {
  for (const Run& run : runs_) {
    if (!run.temporary.empty()) remove_quietly(run.temporary);
  }
}

std::filesystem::path IdIndex::file_of(const IdRange& range) const {
  return index_directory(store_) / name_of(range.first, range.last);
}

std::filesystem::path IdIndex::temporary_of(const std::filesystem::path& file) {
  const std::string name = "." + file.filename().string() + ".tmp-" + std::to_string(::getpid()) +
                           "-" + std::to_string(temporaries_++);
  return file.parent_path() / name;
}

std::string IdIndex::covers(int64_t first, int64_t last) const {
  Sha256 digest;
  for (int64_t i = first; i <= last; ++i) digest.update(segments_[static_cast<std::size_t>(i - 1)]);
  return digest.hex();
}

/// The longest chain of sound runs from the first segment on; other files go.
void IdIndex::load() {
  std::map<int64_t, std::vector<std::pair<int64_t, std::filesystem::path>>> by_first;
  const auto files = files_in(index_directory(store_));
  for (const auto& file : files) {
    const auto [first, last] = range_of(file.filename().string());
    if (first > 0) by_first[first].emplace_back(last, file);
  }
  int64_t next = 1;
  const auto take_next = [&] {
    auto& candidates = by_first[next];
    std::sort(candidates.rbegin(), candidates.rend());
    for (const auto& [last, file] : candidates) {
      if (last < next || last > static_cast<int64_t>(segments_.size())) continue;
      try {
        IdRun run = IdRun::from_file(file);
        if (run.range().first != next || run.range().last != last ||
            run.range().covers != covers(next, last) || (!runs_.empty() && run.key() != key_)) {
          continue;
        }
        key_ = run.key();
        runs_.push_back({std::move(run), file, {}});
        next = last + 1;
        return true;
      } catch (const Error&) {  // made anew
      }
    }
    return false;
  };
  while (take_next()) {
  }
  for (const auto& file : files) {
    const bool kept =
        std::any_of(runs_.begin(), runs_.end(), [&](const Run& run) { return run.file == file; });
    if (!kept) remove_quietly(file);
  }
}

void IdIndex::rebuild(int64_t segment, int64_t items_before) {
  const auto path = segments_directory(store_) / segment_name(segment);
  const hdf5::SegmentView view(path);
  const hdf5::SegmentHeader& header = view.header();
  IdEntries entries;
  const auto collect = [&](IdKind kind, const auto& rows, auto record, auto words_of) {
    for (int64_t i = 0; i < rows.size(); ++i) {
      rows.read(i, record);
      entries[static_cast<std::size_t>(kind)].push_back(words_of(record, i));
    }
  };
  collect(IdKind::kItem, view.rows<Item>(header.items), Item{}, [&](const Item& item, int64_t i) {
    return IdEntry{id_of(item.id), {static_cast<uint64_t>(items_before + i), content_of(item)}};
  });
  collect(IdKind::kRating, view.rows<Rating>(header.ratings), Rating{},
          [&](const Rating& rating, int64_t) {
            return IdEntry{id_of(rating), {std::bit_cast<uint64_t>(rating.value), 0}};
          });
  collect(IdKind::kComparison, view.rows<Comparison>(header.comparisons), Comparison{},
          [&](const Comparison& one, int64_t) {
            return IdEntry{id_of(one.id), {content_of(one), 0}};
          });
  collect(IdKind::kDemonstration, view.rows<Demonstration>(header.demonstrations), Demonstration{},
          [&](const Demonstration& one, int64_t) {
            return IdEntry{id_of(one.id), {content_of(one), 0}};
          });
  collect(IdKind::kAnswer, view.rows<Answer>(header.answers), Answer{},
          [&](const Answer& one, int64_t) {
            return IdEntry{id_of(one.id), {}};
          });
  push({segment, segment, covers(segment, segment)}, entries);
}

Fingerprint IdIndex::id_of(std::string_view id) const {
  const Fingerprint digest = siphash128(key_, id);
  return digest == Fingerprint{} ? Fingerprint{0, 1} : digest;
}

Fingerprint IdIndex::id_of(const Rating& rating) const {
  std::string key = std::to_string(rating.item) + " " + std::to_string(rating.rater.size()) + " ";
  key += rating.rater;
  key += rating.dimension;
  return id_of(key);
}

uint64_t IdIndex::content_of(std::initializer_list<std::string_view> parts) const {
  const SipKey other = {~key_[0], key_[1]};
  std::vector<uint64_t> digests;
  for (const std::string_view part : parts) {
    const Fingerprint digest = siphash128(other, part);
    digests.insert(digests.end(), {digest.high, digest.low});
  }
  return siphash128(other, {reinterpret_cast<const char*>(digests.data()),
                            digests.size() * sizeof(uint64_t)})
      .high;
}

uint64_t IdIndex::content_of(const Item& item) const {
  return content_of({item.prompt, item.text, item.prompt_is_messages ? "messages" : "text"});
}

uint64_t IdIndex::content_of(const Comparison& comparison) const {
  const auto& items = comparison.items;
  return content_of(
      {{reinterpret_cast<const char*>(items.data()), items.size() * sizeof(int64_t)},
       {reinterpret_cast<const char*>(comparison.ranks.data()), comparison.ranks.size()},
       std::to_string(static_cast<int>(comparison.outcome)),
       comparison.rater});
}

uint64_t IdIndex::content_of(const Demonstration& demonstration) const {
  return content_of({demonstration.prompt, demonstration.completion,
                     demonstration.prompt_is_messages ? "messages" : "text"});
}

bool IdIndex::find(IdKind kind, const Fingerprint& id, IdWords& words) const {
  if (const IdEntry* entry = pending_[static_cast<std::size_t>(kind)].find(id)) {
    words = entry->words;
    return true;
  }
  return std::any_of(runs_.begin(), runs_.end(),
                     [&](const Run& run) { return run.run.find(kind, id, words); });
}

bool IdIndex::insert(IdKind kind, const Fingerprint& id, const IdWords& words) {
  IdWords known;
  if (find(kind, id, known)) return false;
  insert_new(kind, id, words);
  return true;
}

void IdIndex::stage(const std::string& segment_sha256) {
  IdEntries entries;
  for (std::size_t kind = 0; kind < kIdKinds; ++kind) entries[kind] = pending_[kind].take();
  segments_.push_back(segment_sha256);
  const auto number = static_cast<int64_t>(segments_.size());
  push({number, number, covers(number, number)}, entries);
}

void IdIndex::push(IdRange range, IdEntries& entries) {
  Run run{IdRun::from_image(encode_id_run(range, key_, entries)), file_of(range), {}};
  runs_.push_back(std::move(run));
  while (runs_.size() > 1 &&
         runs_[runs_.size() - 2].run.entries() < kGrowth * runs_.back().run.entries()) {
    const std::size_t before = runs_.size();
    merge_last();
    if (runs_.size() == before) return;
  }
}

/// Two runs become one, in a temporary file; both stay when that cannot be written.
void IdIndex::merge_last() {
  Run& a = runs_[runs_.size() - 2];
  Run& b = runs_.back();
  const int64_t first = a.run.range().first, last = b.run.range().last;
  const IdRange range{first, last, covers(first, last)};
  const auto file = file_of(range), temporary = temporary_of(file);
  try {
    std::filesystem::create_directories(index_directory(store_));
    merge_id_runs(a.run, b.run, range, temporary);
    Run merged{IdRun::from_file(temporary), file, temporary};
    for (const Run* old : {&a, &b}) {
      if (old->temporary.empty()) {
        obsolete_.push_back(old->file);
      } else {
        remove_quietly(old->temporary);
      }
    }
    runs_.pop_back();
    runs_.back() = std::move(merged);
  } catch (const std::exception&) {
    remove_quietly(temporary);
  }
}

void IdIndex::publish() noexcept {
  try {
    for (Run& run : runs_) {
      if (!run.temporary.empty()) {
        publish_file(run.temporary, run.file);
        run.temporary.clear();
      } else if (run.run.is_in_memory()) {
        std::filesystem::create_directories(index_directory(store_));
        write_file_atomically(run.file, run.run.image());
        run.run = IdRun::from_file(run.file);
      }
    }
    for (const auto& file : obsolete_) {
      const bool used =
          std::any_of(runs_.begin(), runs_.end(), [&](const Run& run) { return run.file == file; });
      if (!used) remove_quietly(file);
    }
    obsolete_.clear();
  } catch (const std::exception&) {
    // The segments are in place. What is known stays known in memory, and the next writer makes
    // the missing runs from the segments.
  }
}

std::vector<std::string> damaged_index_files(const std::filesystem::path& store) {
  std::vector<std::string> damaged;
  for (const auto& file : files_in(index_directory(store))) {
    const std::string name = "index/" + file.filename().string();
    if (range_of(file.filename().string()).first == 0) continue;
    try {
      if (is_earlier_run(file)) continue;
      if (!IdRun::from_file(file).is_whole()) damaged.push_back(name + ": expected its SHA-256");
    } catch (const Error& error) {
      damaged.push_back(name + ": " + error.what());
    }
  }
  return damaged;
}

}  // namespace hone::data
