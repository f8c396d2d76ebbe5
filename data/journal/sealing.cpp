// From the journal into segments, and both read as one.

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>

#include "data/error.h"
#include "data/journal/compose.h"
#include "data/journal/journal_impl.h"
#include "data/store_files.h"

namespace hone::data {
namespace {

constexpr int64_t kRowsAtOnce = 512;
constexpr int64_t kUndoWindow = 600 * kMicroseconds;

/// Marks what is final: a marked answer can no longer be taken back. A rater's latest one is left
/// for as long as they may still take it back.
int64_t mark_final(sqlite::Database& database, int64_t now_us) {
  database.run(
      "UPDATE unsealed SET sealing = 1 WHERE sealing = 0 AND (EXISTS (SELECT 1 FROM unsealed later"
      " WHERE later.rater = unsealed.rater AND later.sequence > unsealed.sequence) OR"
      " (SELECT answered_us FROM answers WHERE sequence = unsealed.sequence) <= ?)",
      now_us - kUndoWindow);
  auto& row = database.prepared("SELECT count(*) FROM unsealed WHERE sealing = 1");
  const int64_t marked = row.step() ? row.integer(0) : 0;
  row.reset();
  return marked;
}

/// The unsealed tail put behind what was read of the segments, by the same rules as StoreWriter's.
class Tail {
 public:
  explicit Tail(Records& records) : records_(records) {
    for (std::size_t i = 0; i < records.items.size(); ++i) {
      items_.emplace(records.items[i].id, static_cast<int64_t>(i));
    }
    for (const Answer& answer : records.answers) answers_.insert(answer.id);
    for (const Rating& one : records.ratings) ratings_.emplace(one.item, one.rater, one.dimension);
  }

  void add(const StoredAnswer& stored) {
    if (!answers_.insert(answer_id(stored.receipt)).second) return;
    AnswerRecords found =
        compose_answer(stored.row, stored.receipt, stored.question, [this](const Item& item) {
          const auto [entry, is_new] =
              items_.emplace(item.id, static_cast<int64_t>(records_.items.size()));
          if (is_new) records_.items.push_back(item);
          return entry->second;
        });
    const auto append = [](auto& to, auto& from) {
      to.insert(to.end(), std::make_move_iterator(from.begin()),
                std::make_move_iterator(from.end()));
    };
    std::erase_if(found.ratings, [this](const Rating& one) {
      return !ratings_.emplace(one.item, one.rater, one.dimension).second;
    });
    append(records_.comparisons, found.comparisons);
    append(records_.ratings, found.ratings);
    append(records_.demonstrations, found.demonstrations);
    append(records_.corrections, found.corrections);
    append(records_.spans, found.spans);
    append(records_.steps, found.steps);
    append(records_.reviews, found.reviews);
    append(records_.flags, found.flags);
    records_.answers.push_back(std::move(found.answer));
  }

 private:
  Records& records_;
  std::unordered_map<std::string, int64_t> items_;
  std::set<std::string> answers_;
  std::set<std::tuple<int64_t, std::string, std::string>> ratings_;
};

int64_t last_sequence(sqlite::Database& database) {
  auto& row = database.prepared("SELECT max(sequence) FROM audit");
  const int64_t sequence = row.step() ? row.integer(0) : 0;
  row.reset();
  return sequence;
}

}  // namespace

std::optional<sqlite::Database> open_journal_to_read(const std::filesystem::path& store) {
  std::error_code error;
  if (!std::filesystem::exists(journal_path(store), error)) return std::nullopt;
  sqlite::OpenOptions options;
  options.create = false;
  options.read_only = true;
  auto database = sqlite::Database::open(journal_path(store), options);
  const std::string version = meta_value(database, "version"),
                    known = std::to_string(kJournalVersion);
  if (version != known) throw CorruptError(database.name(), "journal version", known, version);
  return database;
}

std::optional<SegmentInfo> Journal::seal(int64_t now_us) {
  const std::lock_guard guard(impl_->sealing);
  int64_t marked = 0;
  impl_->writer->run([&](sqlite::Database& database) { marked = mark_final(database, now_us); });
  if (marked == 0) return std::nullopt;
  const Store store = Store::open(impl_->store);
  // An answer that a crash left both in a segment and unsealed is known by its id to the writer.
  StoreWriter writer(store);
  int64_t last = 0;
  for (;;) {
    const auto batch = impl_->readers.read([&](sqlite::Database& database) {
      return load_unsealed(database, last, kRowsAtOnce, true);
    });
    if (batch.empty()) break;
    for (const StoredAnswer& stored : batch) {
      writer.add_answer(compose_answer(stored.row, stored.receipt, stored.question,
                                       [&](const Item& item) { return writer.add_item(item); }));
    }
    last = batch.back().row.sequence;
  }
  const SegmentInfo segment = writer.seal();
  impl_->writer->run([&](sqlite::Database& database) {
    database.run("DELETE FROM unsealed WHERE sealing = 1 AND sequence <= ?", last);
  });
  if (segment.name.empty()) return std::nullopt;
  return segment;
}

Records read_feedback(const std::filesystem::path& store, FeedbackCursor* cursor) {
  // The tail first: what is sealed between the two reads is then seen twice and kept once.
  std::vector<StoredAnswer> tail;
  int64_t sequence = 0;
  if (auto database = open_journal_to_read(store)) {
    database->execute("BEGIN");
    tail = load_unsealed(*database, 0, INT64_MAX, false);
    sequence = last_sequence(*database);
    database->execute("COMMIT");
  }
  const Store opened = Store::open(store);
  std::string hash = opened.hash();
  Records records = opened.read();
  Tail behind(records);
  for (const StoredAnswer& stored : tail) behind.add(stored);
  if (cursor != nullptr) *cursor = {std::move(hash), sequence};
  return records;
}

bool has_new_feedback(const std::filesystem::path& store, const FeedbackCursor& cursor) {
  auto database = open_journal_to_read(store);
  const int64_t sequence = database ? last_sequence(*database) : 0;
  return sequence != cursor.sequence || Store::open(store).hash() != cursor.segments;
}

}  // namespace hone::data
