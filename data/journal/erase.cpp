// A person's answers leave journal and segments. The order survives a crash anywhere: the name is
// noted, the segments are rewritten one by one, then one transaction removes the rows, leaves the
// tombstone and the note goes; a journal that opens with such a note goes on from there.

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "data/atomic_file.h"
#include "data/error.h"
#include "data/journal/compose.h"
#include "data/journal/journal_impl.h"
#include "data/store_files.h"

namespace hone::data {
namespace {

constexpr const char* kNote = "erasing";

/// Rows that a rater gave, and what hangs on their answers. Returns the number of rows removed.
std::size_t remove_rater(Records& records, const std::string& rater) {
  std::unordered_set<std::string> answers;
  for (const Answer& one : records.answers) {
    if (one.rater == rater) answers.insert(one.id);
  }
  std::size_t removed = 0;
  const auto by_rater = [&](auto& rows) {
    removed += std::erase_if(rows, [&](const auto& row) { return row.rater == rater; });
  };
  const auto by_answer = [&](auto& rows) {
    removed += std::erase_if(rows, [&](const auto& row) { return answers.count(row.answer) != 0; });
  };
  by_rater(records.ratings);
  by_rater(records.comparisons);
  by_rater(records.demonstrations);
  by_rater(records.answers);
  by_answer(records.corrections);
  by_answer(records.spans);
  by_answer(records.steps);
  by_answer(records.reviews);
  by_answer(records.flags);
  return removed;
}

/// Held while segments are rewritten, so that no writer counts on the old ones.
void rewrite_segments(const std::filesystem::path& store, const std::string& rater) {
  const StoreWriter lock{Store::open(store)};
  for (const auto& path : segment_paths(store)) {
    Records records;
    const hdf5::SegmentHeader header = hdf5::read_segment(path, records);
    if (remove_rater(records, rater) == 0) continue;
    write_file_atomically(path, hdf5::encode_segment(records, header.items_before, header.created));
  }
  // Derived from the old segments; made anew by the next writer.
  std::error_code ignored;
  std::filesystem::remove_all(store / "index", ignored);
}

std::vector<AnswerRow> rows_of(sqlite::Database& database, const std::string& rater) {
  std::vector<AnswerRow> all;
  auto& rows = database.prepared(std::string("SELECT ") + kAnswerColumns +
                                 " FROM answers WHERE rater = ? ORDER BY sequence");
  rows.bind_all(rater);
  while (rows.step()) all.push_back(read_answer_row(rows));
  rows.reset();
  return all;
}

int64_t remove_rows(sqlite::Database& database, const std::string& rater, int64_t now_us,
                    int64_t& stamp) {
  for (const char* query : {"SELECT id FROM leases WHERE rater = ?"}) {
    std::vector<std::string> ids;
    auto& rows = database.prepared(query);
    rows.bind_all(rater);
    while (rows.step()) ids.push_back(rows.text(0));
    rows.reset();
    for (const std::string& id : ids) drop_lease(database, *lease_by_id(database, id), ++stamp);
  }
  const std::vector<AnswerRow> rows = rows_of(database, rater);
  std::unordered_set<int64_t> undone;
  nlohmann::json sequences = nlohmann::json::array();
  for (const AnswerRow& row : rows) {
    if (row.type == RowType::kUndo) undone.insert(row.supersedes);
    sequences.push_back(row.sequence);
  }
  int64_t answers = 0;
  for (const AnswerRow& row : rows) {
    if (row.type != RowType::kAnswer) continue;
    ++answers;
    if (undone.count(row.sequence) == 0) forget_answer(database, row, ++stamp);
  }
  for (const char* table : {"answers", "unsealed", "taken", "repeatable", "cursors", "shifts",
                            "standing", "sittings", "days", "leases"}) {
    database.run(std::string("DELETE FROM ") + table + " WHERE rater = ?", rater);
  }
  if (!rows.empty()) {
    AnswerRow tombstone;
    tombstone.type = RowType::kErasure;
    tombstone.body = nlohmann::json{{"erased", answers}, {"sequences", sequences}}.dump();
    tombstone.answered_us = now_us;
    append_row(database, tombstone);
  }
  database.run("DELETE FROM meta WHERE name = ?", kNote);
  return answers;
}

}  // namespace

int64_t finish_erasure(Journal::Impl& journal, int64_t now_us) {
  std::string rater;
  journal.writer->run([&](sqlite::Database& database) { rater = meta_value(database, kNote); });
  if (rater.empty()) return 0;
  rewrite_segments(journal.store, rater);
  int64_t removed = 0;
  journal.writer->run([&](sqlite::Database& database) {
    removed = remove_rows(database, rater, now_us, journal.stamp);
  });
  // What was deleted is overwritten (secure_delete); the log still has it, and free pages the rest.
  journal.writer->run_alone([](sqlite::Database& database) {
    database.execute("VACUUM");
    database.checkpoint();
  });
  return removed;
}

int64_t Journal::erase(const std::string& pseudonym, int64_t now_us) {
  if (pseudonym.empty()) throw InputError("erase", "rater", "a pseudonym", "nothing");
  const std::lock_guard guard(impl_->sealing);
  finish_erasure(*impl_, now_us);  // of somebody else, which a full disk had stopped
  impl_->writer->run(
      [&](sqlite::Database& database) { set_meta_value(database, kNote, pseudonym); });
  return finish_erasure(*impl_, now_us);
}

}  // namespace hone::data
