#include "data/journal/question_row.h"

#include "data/error.h"

namespace hone::data {
namespace {

struct Counts {
  int64_t open_slots = 0, leased = 0, complete = 0, escalated = 0;
};

Counts counts_of(const QuestionRow& row) {
  Counts counts;
  counts.leased = row.leased + (row.expert_leased ? 1 : 0);
  counts.complete = row.state == QuestionState::kComplete || row.state == QuestionState::kDecided;
  counts.escalated = row.state == QuestionState::kEscalated;
  if (row.ready()) counts.open_slots = row.overlap - row.accepted - row.leased;
  return counts;
}

void add_counts(sqlite::Database& database, const std::string& project, const Counts& before,
                const Counts& after) {
  if (before.open_slots == after.open_slots && before.leased == after.leased &&
      before.complete == after.complete && before.escalated == after.escalated) {
    return;
  }
  database.run(
      "UPDATE queue_counts SET open_slots = open_slots + ?, leased = leased + ?,"
      " complete = complete + ?, escalated = escalated + ? WHERE project = ?",
      after.open_slots - before.open_slots, after.leased - before.leased,
      after.complete - before.complete, after.escalated - before.escalated, project);
}

}  // namespace

QuestionRow load_question(sqlite::Database& database, int64_t seq) {
  auto& found = database.prepared(
      "SELECT id, project, language, kind, rank, own_overlap, overlap, purpose, state, accepted,"
      " leased, expert_leased, stamp FROM questions WHERE seq = ?");
  found.bind_all(seq);
  if (!found.step()) {
    throw CorruptError(database.name(), "question", "row " + std::to_string(seq), "none");
  }
  QuestionRow row;
  row.seq = seq;
  row.id = found.text(0);
  row.project = found.text(1);
  row.language = found.text(2);
  row.kind = static_cast<QuestionKind>(found.integer(3));
  row.rank = found.integer(4);
  row.own_overlap = found.integer(5);
  row.overlap = found.integer(6);
  row.purpose = static_cast<Purpose>(found.integer(7));
  row.state = static_cast<QuestionState>(found.integer(8));
  row.accepted = found.integer(9);
  row.leased = found.integer(10);
  row.expert_leased = found.integer(11) != 0;
  row.stamp = found.integer(12);
  found.reset();
  return row;
}

void insert_question(sqlite::Database& database, const QuestionRow& row, const std::string& digest,
                     const std::string& content) {
  database.run(
      "INSERT INTO questions(seq, id, digest, project, kind, language, rank, own_overlap, overlap,"
      " purpose, state, accepted, leased, expert_leased, remaining, ready, stamp)"
      " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0, ?, ?, ?)",
      row.seq, row.id, digest, row.project, row.kind, row.language, row.rank, row.own_overlap,
      row.overlap, row.purpose, row.remaining(), row.ready(), row.stamp);
  database.run("INSERT INTO question_content VALUES(?, ?)", row.seq, content);
  add_counts(database, row.project, {}, counts_of(row));
}

void save_question(sqlite::Database& database, const QuestionRow& before, QuestionRow& row) {
  if (row.purpose == Purpose::kOrdinary &&
      (row.state == QuestionState::kOpen || row.state == QuestionState::kComplete)) {
    row.state = row.accepted >= row.overlap ? QuestionState::kComplete : QuestionState::kOpen;
  }
  database.run(
      "UPDATE questions SET overlap = ?, state = ?, accepted = ?, leased = ?, expert_leased = ?,"
      " remaining = ?, ready = ?, stamp = ? WHERE seq = ?",
      row.overlap, row.state, row.accepted, row.leased, row.expert_leased, row.remaining(),
      row.ready(), row.stamp, row.seq);
  add_counts(database, row.project, counts_of(before), counts_of(row));
}

void add_to_count(sqlite::Database& database, const std::string& project, const char* column,
                  int64_t change) {
  database.run(
      std::string("UPDATE queue_counts SET ") + column + " = " + column + " + ? WHERE project = ?",
      change, project);
}

}  // namespace hone::data
